// The two kernels around the network: crop before it, box after it. The host launches nothing else per frame.
//
// All they need lies at fixed device addresses, so that one captured graph serves every frame: the frame's description
// (its pixels may be elsewhere each time), the family's rule, the state of every object, the square that the last box asks
// for, and what the network is told of the state.
// Compiled without contraction (--fmad=false): the arithmetic of crop.h and box.h must give the host's bits.
#include "box.h"
#include "crop.h"

namespace jntrt {

// What the next frame's crop needs of an object; written by the host's upload and by the box kernel.
struct Lane {
  double box[4];     // x, y, w, h in pixels of the frame
  double scale;      // crop_scale of the square: two double divisions that no pixel has to repeat
  double span;       // crop_span of the square
  Rectangle square;  // side 0: lost to arithmetic, the crop is black and the result says so
  int reserved;
};

// What the host reads, from page-locked memory.
struct Result {
  double box[4];
  float score;
  int status;  // 0; 1: the network's box or score is not finite, the state has not moved
};

static_assert(sizeof(void*) == 8, "runtime/cuda/kernels.py mirrors these layouts");
static_assert(sizeof(Frame) == 56 && sizeof(Rule) == 40 && sizeof(Lane) == 64 && sizeof(Result) == 40,
              "runtime/cuda/kernels.py mirrors these layouts");

JNTRT_HD inline void aim_lane(Lane& lane, const Rule& rule) {
  const Aim aim = crop_square(lane.box, rule);
  lane.square = aim.square;
  lane.span = crop_span(aim, rule);
  lane.scale = lane.square.side > 0 ? crop_scale(lane.square.side, rule.size) : 0.0;
}

}  // namespace jntrt

// Threads of a crop's block, as runtime/cuda/kernels.py launches it: a warp per row.
constexpr int kBlockColumns = 32, kBlockRows = 8;

// Object blockIdx.z's square of the frame to its size×size×3 bytes of `out`; one thread per pixel.
// A tap costs double precision, of which a consumer's card has little: each row's and column's is computed once per block.
extern "C" __global__ void jntrt_crop(const jntrt::Frame* __restrict__ frame, const jntrt::Lane* __restrict__ lanes,
                                      uint8_t* __restrict__ out, int size, int swap) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  // Copies: the bytes that are written could be anywhere, and would have what pointers lead to read again for each.
  const jntrt::Frame source = *frame;
  const double scale = lanes[blockIdx.z].scale;
  const jntrt::Rectangle square = lanes[blockIdx.z].square;
#ifdef __CUDA_ARCH__
  __shared__ jntrt::Tap columns[kBlockColumns], rows[kBlockRows];
  if (square.side > 0 && threadIdx.y == 0) columns[threadIdx.x] = jntrt::crop_column(column, scale, square);
  if (square.side > 0 && threadIdx.y == 1 && threadIdx.x < kBlockRows)
    rows[threadIdx.x] = jntrt::crop_row(blockIdx.y * blockDim.y + threadIdx.x, scale, square);
  __syncthreads();
#endif
  if (column >= size || row >= size) return;
  uint8_t* pixel = out + 3 * ((static_cast<ptrdiff_t>(blockIdx.z) * size + row) * size + column);
  if (square.side <= 0) {
    pixel[0] = pixel[1] = pixel[2] = 0;
    return;
  }
#ifdef __CUDA_ARCH__
  const jntrt::Tap row_tap = rows[threadIdx.y], column_tap = columns[threadIdx.x];
#else  // on the host each thread runs to its end before the next begins
  const jntrt::Tap row_tap = jntrt::crop_row(row, scale, square), column_tap = jntrt::crop_column(column, scale, square);
#endif
  jntrt::crop_pixel(source, row_tap, column_tap, swap != 0 && source.chroma == nullptr, pixel);  // NV12 makes RGB
}

// The network's boxes (count×4: cx, cy, w, h in units of the crop) and scores to the new states, the next squares and the
// results; one thread per object. `sizes`: count×2, where the network wants each state's width and height in pixels of its
// crop, or null.
extern "C" __global__ void jntrt_box(const jntrt::Frame* frame, const jntrt::Rule* rule, const float* boxes,
                                     const float* scores, jntrt::Lane* lanes, jntrt::Result* results, float* sizes,
                                     int count) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const float* crop_box = boxes + 4 * index;
  jntrt::Lane& lane = lanes[index];
  jntrt::Result& result = results[index];
  double box[4] = {crop_box[0], crop_box[1], crop_box[2], crop_box[3]};
  const double score = scores[index];
  result.score = scores[index];
  if (lane.square.side > 0 && jntrt::is_finite_box(box) && score - score == 0.0) {
    jntrt::box_to_frame(crop_box, lane.box, lane.span, frame->width, frame->height, *rule, box);
    for (int i = 0; i < 4; ++i) lane.box[i] = box[i];
    jntrt::aim_lane(lane, *rule);
    if (sizes != nullptr && lane.square.side > 0) {
      const double scale = rule->size / lane.span;
      sizes[2 * index] = static_cast<float>(lane.box[2] * scale);
      sizes[2 * index + 1] = static_cast<float>(lane.box[3] * scale);
    }
    result.status = 0;
  } else {
    result.status = 1;
  }
  for (int i = 0; i < 4; ++i) result.box[i] = lane.box[i];
}
