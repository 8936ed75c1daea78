// From a box to the square that is cropped, and from the network's box back to the frame: one source for host and device.
// Double precision throughout and no contraction to fused multiply-adds (-ffp-contract=off, --fmad=false), so that both
// sides agree with runtime/geometry.py to the last bit and no crop ever lands one pixel beside the other's.
#pragma once

#include "crop.h"

namespace jntrt {

// Smallest side that the clip leaves a box, and how far from the far border its corner stays, in pixels.
constexpr double kClipMargin = 10.0;

// Sides above this are refused (runtime/geometry.py MAX_SIDE): past any real camera.
constexpr double kLargestSide = 65536.0;

// Beyond this a corner plus a side would leave 32-bit integers; the clip keeps every state far below.
constexpr double kLargestCorner = 1e9;

JNTRT_HD inline bool is_finite_box(const double box[4]) {
  // x - x is NaN for NaN and for both infinities; isfinite is a macro on some hosts and a function on others.
  return box[0] - box[0] == 0.0 && box[1] - box[1] == 0.0 && box[2] - box[2] == 0.0 && box[3] - box[3] == 0.0;
}

// The square of `factor` times the geometric mean side of `box` (x, y, w, h) around its centre; side 0 where there is
// none (a box that is not finite, or empty, or out of reach):
//   side = ceil(sqrt(w h) factor),  x1 = round_half_even(x + w/2 - side/2).
JNTRT_HD inline Rectangle crop_square(const double box[4], double factor) {
  Rectangle square = {0, 0, 0};
  if (!is_finite_box(box) || box[2] <= 0.0 || box[3] <= 0.0) return square;
  const double exact_side = sqrt(box[2] * box[3]) * factor;
  if (exact_side > kLargestSide) return square;
  const double side = ceil(exact_side);
  if (side < 1.0) return square;
  // rint rounds half to even, as Python's round does in the released tracker.
  const double x = rint(box[0] + 0.5 * box[2] - side * 0.5);
  const double y = rint(box[1] + 0.5 * box[3] - side * 0.5);
  if (!(fabs(x) <= kLargestCorner && fabs(y) <= kLargestCorner)) return square;
  square.x = static_cast<int>(x);
  square.y = static_cast<int>(y);
  square.side = static_cast<int>(side);
  return square;
}

JNTRT_HD inline double smaller(double a, double b) { return b < a ? b : a; }
JNTRT_HD inline double larger(double a, double b) { return b > a ? b : a; }

// Clips (x, y, w, h) to a frame of width × height, in place: at least kClipMargin pixels stay inside.
JNTRT_HD inline void clip_box(double box[4], int width, int height) {
  const double x2 = smaller(larger(kClipMargin, box[0] + box[2]), width);
  const double y2 = smaller(larger(kClipMargin, box[1] + box[3]), height);
  box[0] = smaller(larger(0.0, box[0]), width - kClipMargin);
  box[1] = smaller(larger(0.0, box[1]), height - kClipMargin);
  box[2] = larger(kClipMargin, x2 - box[0]);
  box[3] = larger(kClipMargin, y2 - box[1]);
}

// The network's box (cx, cy, w, h in units of the search crop, whose side is `side` frame pixels) in the frame, clipped.
// The reference is the centre of `state`, the box that the crop was made around, not that of the rounded square.
JNTRT_HD inline void box_to_frame(const float crop_box[4], const double state[4], int side, int width, int height,
                                  double out[4]) {
  const double w = static_cast<double>(crop_box[2]) * side;
  const double h = static_cast<double>(crop_box[3]) * side;
  const double corner_x = state[0] + 0.5 * state[2] - 0.5 * side;
  const double corner_y = state[1] + 0.5 * state[3] - 0.5 * side;
  out[0] = static_cast<double>(crop_box[0]) * side + corner_x - 0.5 * w;
  out[1] = static_cast<double>(crop_box[1]) * side + corner_y - 0.5 * h;
  out[2] = w;
  out[3] = h;
  clip_box(out, width, height);
}

}  // namespace jntrt
