// kernels.cu for the host: the same source through a C++ compiler, a launch being a loop over blocks and threads.
// Built as a shared library by the tests; `jntrt_host_launch` is what the emulated driver calls for cuLaunchKernel.
// With JNTRT_BLOCKS the threads of a block run at the same time, and the source is what the device compiles: shared memory
// and the wait for all. Slow, for a few launches.
#include <pthread.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

struct Index {
  unsigned x, y, z;
};
static thread_local Index blockIdx, threadIdx, blockDim;
#define __global__
#ifdef JNTRT_BLOCKS
#define __CUDA_ARCH__ 890
#define __shared__ static
static pthread_barrier_t whole_block;
static void __syncthreads() { pthread_barrier_wait(&whole_block); }
static double __dmul_rn(double a, double b) { return a * b; }
static double __dadd_rn(double a, double b) { return a + b; }
#endif

#include "kernels.cu"

#ifdef JNTRT_BLOCKS
template <typename Kernel>
static void run(const unsigned grid[3], const unsigned block[3], Kernel kernel) {
  const unsigned count = block[0] * block[1];
  pthread_barrier_init(&whole_block, nullptr, count);
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < count; ++thread)
    threads.emplace_back([=] {
      blockDim = {block[0], block[1], 1};
      threadIdx = {thread % block[0], thread / block[0], 0};
      for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
          for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) {
            kernel();
            pthread_barrier_wait(&whole_block);  // the next block has the same shared memory
          }
    });
  for (auto& thread : threads) thread.join();
  pthread_barrier_destroy(&whole_block);
}
#else
template <typename Kernel>
static void run(const unsigned grid[3], const unsigned block[3], Kernel kernel) {
  blockDim = {block[0], block[1], block[2]};
  for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
        for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
          for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)
            for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x) kernel();
}
#endif

template <typename T>
static T argument(void* const* arguments, int index) {
  return *static_cast<T*>(arguments[index]);
}

// 0, or 1 when there is no kernel of that name. `arguments` as cuLaunchKernel takes them: a pointer to each value.
extern "C" int jntrt_host_launch(const char* name, const unsigned grid[3], const unsigned block[3],
                                 void* const* arguments) {
  const auto* frame = argument<const jntrt::Frame*>(arguments, 0);
  if (std::strcmp(name, "jntrt_crop") == 0) {
    const auto* lanes = argument<const jntrt::Lane*>(arguments, 1);
    auto* out = argument<uint8_t*>(arguments, 2);
    const int size = argument<int>(arguments, 3), swap = argument<int>(arguments, 4);
    run(grid, block, [=] { jntrt_crop(frame, lanes, out, size, swap); });
    return 0;
  }
  if (std::strcmp(name, "jntrt_box") == 0) {
    const auto* rule = argument<const jntrt::Rule*>(arguments, 1);
    const auto* boxes = argument<const float*>(arguments, 2);
    const auto* scores = argument<const float*>(arguments, 3);
    auto* lanes = argument<jntrt::Lane*>(arguments, 4);
    auto* results = argument<jntrt::Result*>(arguments, 5);
    auto* sizes = argument<float*>(arguments, 6);
    const int count = argument<int>(arguments, 7);
    run(grid, block, [=] { jntrt_box(frame, rule, boxes, scores, lanes, results, sizes, count); });
    return 0;
  }
  return 1;
}

extern "C" void jntrt_host_square(const double* box, const jntrt::Rule* rule, int* out, double* span) {
  const jntrt::Aim aim = jntrt::crop_square(box, *rule);
  out[0] = aim.square.x, out[1] = aim.square.y, out[2] = aim.square.side;
  *span = jntrt::crop_span(aim, *rule);
}

extern "C" void jntrt_host_box(const float* crop_box, const double* state, double span, int width, int height,
                               const jntrt::Rule* rule, double* out) {
  jntrt::box_to_frame(crop_box, state, span, width, height, *rule, out);
}
