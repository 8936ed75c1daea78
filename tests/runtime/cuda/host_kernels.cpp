// kernels.cu for the host: the same source through a C++ compiler, a launch being a loop over blocks and threads.
// Built as a shared library by the tests; `jntrt_host_launch` is what the emulated driver calls for cuLaunchKernel.
#include <cstdint>
#include <cstring>

struct Index {
  unsigned x, y, z;
};
static thread_local Index blockIdx, threadIdx, blockDim;
#define __global__

#include "kernels.cu"

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
