// From a box to the square that is cropped, and from the network's box back to the frame: one source for host and device.
// Double precision throughout and no contraction to fused multiply-adds (-ffp-contract=off, --fmad=false), so that both
// sides agree with runtime/geometry.py to the last bit and no crop ever lands one pixel beside the other's.
#pragma once

#include "crop.h"

namespace jntrt {

// The choices of runtime/bundle/conventions.py, in its order, where they say the same.
enum Context { kArea, kPadded };
enum Side { kCeil, kHalfEven };
enum Corner { kCornerHalfEven, kCornerFloor };
enum Scale { kScaleCrop, kScaleExact };
enum Clip { kClipBox, kClipCentre };

// How a square follows from a box, and a state from the network's box: the search crop's conventions and the state's.
struct Rule {
  double factor;      // of the context kArea
  double least_size;  // of the clip, in pixels
  int size;           // of the crop, in pixels of the network's input
  int context;
  int side;
  int corner;
  int scale;
  int clip;
};

constexpr double kExemplar = 127.0;  // the template's side in SiamFC, of which the padded context speaks

// Sides above this are refused (runtime/geometry.py MAX_SIDE): past any real camera.
constexpr double kLargestSide = 65536.0;

// Beyond this a corner plus a side would leave 32-bit integers; the clip keeps every state far below.
constexpr double kLargestCorner = 1e9;

JNTRT_HD inline bool is_finite_box(const double box[4]) {
  // x - x is NaN for NaN and for both infinities; isfinite is a macro on some hosts and a function on others.
  return box[0] - box[0] == 0.0 && box[1] - box[1] == 0.0 && box[2] - box[2] == 0.0 && box[3] - box[3] == 0.0;
}

// A square, and its side before it was rounded.
struct Aim {
  Rectangle square;
  double exact_side;
};

// The square around the centre of `box` (x, y, w, h) by `rule`; side 0 where there is none (a box that is not finite, or
// empty, or out of reach).
JNTRT_HD inline Aim crop_square(const double box[4], const Rule& rule) {
  Aim aim = {{0, 0, 0}, 0.0};
  if (!is_finite_box(box) || box[2] <= 0.0 || box[3] <= 0.0) return aim;
  double exact = 0.0;
  if (rule.context == kPadded) {
    const double pad = 0.5 * (box[2] + box[3]);
    exact = sqrt((box[2] + pad) * (box[3] + pad)) * (rule.size / kExemplar);
  } else {
    exact = sqrt(box[2] * box[3]) * rule.factor;
  }
  if (exact > kLargestSide) return aim;
  // rint rounds half to even, as Python's round does in the released trackers.
  const double side = rule.side == kHalfEven ? rint(exact) : ceil(exact);
  if (side < 1.0) return aim;
  double x, y;
  if (rule.corner == kCornerFloor) {
    const double half = (side + 1.0) * 0.5;
    x = floor(box[0] + 0.5 * box[2] - half + 0.5);
    y = floor(box[1] + 0.5 * box[3] - half + 0.5);
  } else {
    x = rint(box[0] + 0.5 * box[2] - side * 0.5);
    y = rint(box[1] + 0.5 * box[3] - side * 0.5);
  }
  if (!(fabs(x) <= kLargestCorner && fabs(y) <= kLargestCorner)) return aim;
  aim.square = {static_cast<int>(x), static_cast<int>(y), static_cast<int>(side)};
  aim.exact_side = exact;
  return aim;
}

// Pixels of the frame that one side of the crop stands for, where lengths are mapped.
JNTRT_HD inline double crop_span(const Aim& aim, const Rule& rule) {
  return rule.scale == kScaleExact ? aim.exact_side : static_cast<double>(aim.square.side);
}

JNTRT_HD inline double smaller(double a, double b) { return b < a ? b : a; }
JNTRT_HD inline double larger(double a, double b) { return b > a ? b : a; }

// One axis of clip_box: start and length of a box, in a frame that is `limit` long.
JNTRT_HD inline void clip_axis(double& start, double& length, int limit, const Rule& rule) {
  const double least = rule.least_size;
  if (rule.clip == kClipCentre) {
    const double centre = smaller(larger(0.0, start + 0.5 * length), limit);
    length = larger(least, smaller(length, limit));
    start = centre - 0.5 * length;
  } else {
    const double end = smaller(larger(least, start + length), limit);
    start = smaller(larger(0.0, start), limit - least);
    length = larger(least, end - start);
  }
}

// Keeps (x, y, w, h) in a frame of width × height, in place.
JNTRT_HD inline void clip_box(double box[4], int width, int height, const Rule& rule) {
  clip_axis(box[0], box[2], width, rule);
  clip_axis(box[1], box[3], height, rule);
}

// The network's box (cx, cy, w, h in units of the search crop, which spans `span` frame pixels) in the frame, clipped.
// The reference is the centre of `state`, the box that the crop was made around, not that of the rounded square.
JNTRT_HD inline void box_to_frame(const float crop_box[4], const double state[4], double span, int width, int height,
                                  const Rule& rule, double out[4]) {
  const double w = static_cast<double>(crop_box[2]) * span;
  const double h = static_cast<double>(crop_box[3]) * span;
  const double corner_x = state[0] + 0.5 * state[2] - 0.5 * span;
  const double corner_y = state[1] + 0.5 * state[3] - 0.5 * span;
  out[0] = static_cast<double>(crop_box[0]) * span + corner_x - 0.5 * w;
  out[1] = static_cast<double>(crop_box[1]) * span + corner_y - 0.5 * h;
  out[2] = w;
  out[3] = h;
  clip_box(out, width, height, rule);
}

}  // namespace jntrt
