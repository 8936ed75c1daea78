// A stand-in for libcuda.so.1, so that runtime/cuda runs whole where there is no GPU: device memory is host memory,
// streams work at once, a capture records and a graph launch replays, kernels are kernels.cu compiled for the host.
// cuda-python finds every function through cuGetProcAddress; those that jntrt does not use are not there.
// What it cannot show: races, timing, and what a real driver refuses.
#include <atomic>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "host_kernels.cpp"

namespace {

using Work = std::function<void()>;
struct Sequence {
  std::vector<Work> work;
};
struct Queue {
  Sequence* capture = nullptr;
};
struct Function {
  std::string name;
};

enum { kSuccess = 0, kInvalidValue = 1, kNotFound = 500, kCaptureUnsupported = 900 };

struct Block {
  size_t bytes;
  int device;  // -1: the host's
};
std::map<void*, Block> memory;
std::map<std::string, long> calls;
std::mutex lock;
char contexts[8];                       // one a device, by its address
thread_local std::vector<void*> stack;  // of contexts, the current one on top
std::atomic<bool> broken{false};        // a fault on the device: from then on every call fails

void* current() { return stack.empty() ? nullptr : stack.back(); }
int fault() { return broken ? 700 : kSuccess; }

int setting(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : otherwise;
}

void count(const char* name) {
  const std::lock_guard<std::mutex> guard(lock);
  ++calls[name];
}

int allocate(void** pointer, size_t bytes, bool on_host) {
  if (!current()) return kInvalidValue;  // a call from a thread without the context
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*pointer, 0xCD, bytes);
  const std::lock_guard<std::mutex> guard(lock);
  memory[*pointer] = {bytes, on_host ? -1 : static_cast<int>(static_cast<char*>(current()) - contexts)};
  return kSuccess;
}

int release(void* pointer) {
  const std::lock_guard<std::mutex> guard(lock);
  if (!memory.erase(pointer)) return kInvalidValue;
  std::free(pointer);
  return fault();
}

int enqueue(Queue* queue, Work work) {
  if (!current() || !queue) return kInvalidValue;
  if (broken) return 700;
  if (queue->capture)
    queue->capture->work.push_back(std::move(work));
  else
    work();
  return kSuccess;
}

int init(unsigned) { return setting("EMULATED_DEVICES", 1) < 0 ? 100 : kSuccess; }
int driver_version(int* version) { return *version = setting("EMULATED_DRIVER", 13000), kSuccess; }
int device_count(int* number) { return *number = setting("EMULATED_DEVICES", 1), kSuccess; }
int device_get(int* device, int ordinal) { return *device = ordinal, kSuccess; }
int device_name(char* name, int length, int) {
  std::strncpy(name, "Emulated GPU", length);
  return kSuccess;
}
int device_uuid(char* uuid, int) {
  for (int i = 0; i < 16; ++i) uuid[i] = static_cast<char>(i);
  return kSuccess;
}
int device_attribute(int* value, int attribute, int) {
  const int capability = setting("EMULATED_CAPABILITY", 89);
  *value = attribute == 75   ? capability / 10
           : attribute == 76 ? capability % 10
           : attribute == 18 ? setting("EMULATED_INTEGRATED", 0)
                             : 0;
  return kSuccess;
}
int primary_state(int, unsigned* flags, int* active) {
  return *flags = setting("EMULATED_FLAGS", 0), *active = 0, kSuccess;
}
int primary_flags(int, unsigned flags) { return count(("flags " + std::to_string(flags)).c_str()), kSuccess; }
int primary_retain(void** context, int device) { return count("retain"), *context = contexts + device, kSuccess; }
int primary_release(int) { return count("release"), kSuccess; }
int context_set(void* context) {
  if (!stack.empty()) stack.pop_back();
  return stack.push_back(context), kSuccess;
}
int context_push(void* context) { return stack.push_back(context), kSuccess; }
int context_pop(void** context) {
  if (stack.empty()) return 201;
  *context = stack.back();
  return stack.pop_back(), fault();
}
int context_get(void** context) { return *context = current(), kSuccess; }
int memory_allocate(void** pointer, size_t bytes) { return allocate(pointer, bytes, false); }
int host_allocate(void** pointer, size_t bytes, unsigned) { return allocate(pointer, bytes, true); }
int pointer_attribute(int* value, int attribute, void* pointer) {
  const std::lock_guard<std::mutex> guard(lock);
  const auto next = memory.upper_bound(pointer);
  if (attribute != 9 || next == memory.begin()) return kInvalidValue;
  const auto& [start, block] = *std::prev(next);
  if (static_cast<char*>(pointer) >= static_cast<char*>(start) + block.bytes) return kInvalidValue;
  return *value = block.device < 0 ? 0 : block.device, kSuccess;
}
int copy(void* target, const void* source, size_t bytes, Queue* queue) {
  count("copy");
  return enqueue(queue, [=] { std::memcpy(target, source, bytes); });
}
int stream_create(Queue** queue, unsigned) { return *queue = new Queue, kSuccess; }
int stream_destroy(Queue* queue) { return count("stream gone"), delete queue, fault(); }
int stream_synchronize(Queue* queue) { return queue->capture ? kCaptureUnsupported : fault(); }
int stream_wait(Queue*, void*, unsigned) { return count("wait"), kSuccess; }
int event_create(void** event, unsigned) { return *event = new char, kSuccess; }
int event_destroy(void* event) { return delete static_cast<char*>(event), fault(); }
int event_record(void*, Queue*) { return count("record"), kSuccess; }
int event_synchronize(void*) { return kSuccess; }
int module_load(void** module, const void* image) {
  count("module");
  const bool is_cubin = std::memcmp(image, "\x7f" "ELF", 4) == 0;
  if (!is_cubin && setting("EMULATED_NO_FATBIN", 0)) return 209;  // no binary for this GPU
  // A CUDA 13 compiler's cubins say so in the ELF header's OSABI, which no older driver knows.
  const bool is_cuda_13 = is_cubin && static_cast<const unsigned char*>(image)[7] == 0x41;
  if (is_cuda_13 && setting("EMULATED_DRIVER", 13000) < 13000) return 200;  // invalid image
  return *module = new char, kSuccess;
}
int module_unload(void* module) { return delete static_cast<char*>(module), kSuccess; }
int module_function(Function** function, void*, const char* name) { return *function = new Function{name}, kSuccess; }

int launch(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
           Queue* queue, void** parameters, void**) {
  count(function->name.c_str());
  // The values are read now, as a launch does: the caller's pointers do not outlive this call.
  const bool is_box = function->name == "jntrt_box";
  const std::vector<size_t> sizes = is_box ? std::vector<size_t>{8, 8, 8, 8, 8, 8, 8, 4} : std::vector<size_t>{8, 8, 8, 4, 4};
  std::vector<std::vector<char>> values;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const char* bytes = static_cast<const char*>(parameters[i]);
    values.emplace_back(bytes, bytes + sizes[i]);
  }
  return enqueue(queue, [=, name = function->name]() mutable {
    std::vector<void*> arguments;
    for (auto& value : values) arguments.push_back(value.data());
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    if (jntrt_host_launch(name.c_str(), grid, block, arguments.data())) std::abort();
  });
}

int host_function(Queue* queue, void (*function)(void*), void* data) {
  return enqueue(queue, [=] { function(data); });
}

int capture_begin(Queue* queue, int) {
  if (setting("EMULATED_NO_CAPTURE", 0) || queue->capture) return kCaptureUnsupported;
  queue->capture = new Sequence;
  return kSuccess;
}
int capture_end(Queue* queue, Sequence** graph) {
  *graph = queue->capture;
  queue->capture = nullptr;
  return *graph ? kSuccess : kCaptureUnsupported;
}
int graph_instantiate(Sequence** executable, Sequence* graph, unsigned long long) {
  return *executable = new Sequence(*graph), kSuccess;
}
int graph_launch(Sequence* executable, Queue*) {
  if (broken) return 700;
  count("graph");
  for (auto& work : executable->work) work();
  return kSuccess;
}
int graph_destroy(Sequence* graph) { return delete graph, fault(); }

const std::map<std::string, void*> functions = {
    {"cuInit", (void*)init},
    {"cuDriverGetVersion", (void*)driver_version},
    {"cuDeviceGetCount", (void*)device_count},
    {"cuDeviceGet", (void*)device_get},
    {"cuDeviceGetName", (void*)device_name},
    {"cuDeviceGetUuid", (void*)device_uuid},
    {"cuDeviceGetAttribute", (void*)device_attribute},
    {"cuDevicePrimaryCtxRetain", (void*)primary_retain},
    {"cuDevicePrimaryCtxGetState", (void*)primary_state},
    {"cuDevicePrimaryCtxSetFlags", (void*)primary_flags},
    {"cuDevicePrimaryCtxRelease", (void*)primary_release},
    {"cuCtxSetCurrent", (void*)context_set},
    {"cuCtxPushCurrent", (void*)context_push},
    {"cuCtxPopCurrent", (void*)context_pop},
    {"cuCtxGetCurrent", (void*)context_get},
    {"cuPointerGetAttribute", (void*)pointer_attribute},
    {"cuMemAlloc", (void*)memory_allocate},
    {"cuMemFree", (void*)release},
    {"cuMemHostAlloc", (void*)host_allocate},
    {"cuMemFreeHost", (void*)release},
    {"cuMemcpyAsync", (void*)copy},
    {"cuStreamCreate", (void*)stream_create},
    {"cuStreamDestroy", (void*)stream_destroy},
    {"cuStreamSynchronize", (void*)stream_synchronize},
    {"cuStreamWaitEvent", (void*)stream_wait},
    {"cuStreamBeginCapture", (void*)capture_begin},
    {"cuStreamEndCapture", (void*)capture_end},
    {"cuEventCreate", (void*)event_create},
    {"cuEventDestroy", (void*)event_destroy},
    {"cuEventRecord", (void*)event_record},
    {"cuEventSynchronize", (void*)event_synchronize},
    {"cuModuleLoadData", (void*)module_load},
    {"cuModuleUnload", (void*)module_unload},
    {"cuModuleGetFunction", (void*)module_function},
    {"cuLaunchKernel", (void*)launch},
    {"cuLaunchHostFunc", (void*)host_function},
    {"cuGraphInstantiate", (void*)graph_instantiate},
    {"cuGraphInstantiateWithFlags", (void*)graph_instantiate},
    {"cuGraphLaunch", (void*)graph_launch},
    {"cuGraphExecDestroy", (void*)graph_destroy},
    {"cuGraphDestroy", (void*)graph_destroy},
};

}  // namespace

extern "C" int cuGetProcAddress_v2(const char* symbol, void** function, int, unsigned long long, int* status) {
  const auto found = functions.find(symbol);
  *function = found == functions.end() ? nullptr : found->second;
  if (status) *status = *function ? 0 : 1;
  return *function ? kSuccess : kNotFound;
}
extern "C" int cuGetProcAddress(const char* symbol, void** function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

// For the tests: bytes of memory still allocated, and how often something was called.
extern "C" size_t emulated_bytes() {
  const std::lock_guard<std::mutex> guard(lock);
  size_t sum = 0;
  for (const auto& [pointer, block] : memory) sum += block.bytes;
  return sum;
}
extern "C" long emulated_calls(const char* name) {
  const std::lock_guard<std::mutex> guard(lock);
  const auto found = calls.find(name);
  return found == calls.end() ? 0 : found->second;
}
extern "C" void emulated_break(int is_broken) { broken = is_broken != 0; }
