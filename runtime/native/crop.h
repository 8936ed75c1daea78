// The crop's arithmetic, shared by host and device: one function per output pixel, no state, no allocation.
//
// A crop is a square of the frame, one colour outside it, resized to size×size as OpenCV's INTER_LINEAR does it on
// 8-bit images: half-pixel centres, 11-bit coefficients, two roundings. The result is equal to OpenCV's bit for
// bit, whichever side runs it. Nothing is padded or copied: a tap outside the frame reads the border's colour.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define JNTRT_HD __host__ __device__
#else
#define JNTRT_HD
#endif

namespace jntrt {

// H×W×3 bytes in memory; `row_bytes` from one row to the next, `column_bytes` from one pixel to the next: a frame that is
// turned as it is read has other steps, and negative ones. The last `hidden` columns and rows count as outside (OSTrack's
// released tracker pads one too many on the right and at the bottom). `border`: what a pixel outside reads as, in the
// frame's order of channels.
// With `chroma` it is NV12: one byte of brightness a pixel, and a pair U, V for each two by two, with its own steps;
// `matrix` says what makes RGB of them.
struct Frame {
  const uint8_t* pixels;
  int width;
  int height;
  ptrdiff_t row_bytes;
  int hidden;
  uint8_t border[3];
  uint8_t matrix = 0;  // 0: BT.601, 1: BT.709
  const uint8_t* chroma = nullptr;
  int column_bytes = 3;
  int chroma_row_bytes = 0;
  int chroma_column_bytes = 0;
  int reserved = 0;
};

struct Colour {
  int channels[3];
};

// Corner and side of the square in pixels of the frame.
struct Rectangle {
  int x;
  int y;
  int side;
};

// Where one output column or row reads: two neighbouring source pixels (of the frame, perhaps outside it) and
// their weights in units of 1/2048.
struct Tap {
  int first;
  int second;
  int first_weight;
  int second_weight;
};

// Source pixels per output pixel, in OpenCV's own order of operations (the reciprocal of the reciprocal).
JNTRT_HD inline double crop_scale(int side, int size) { return 1.0 / (static_cast<double>(size) / side); }

// The position in the source, in single precision as OpenCV has it. Multiplication and subtraction must stay two
// roundings: the device is told so here, the host by -ffp-contract=off.
JNTRT_HD inline float crop_position(int index, double scale) {
#ifdef __CUDA_ARCH__
  return static_cast<float>(__dadd_rn(__dmul_rn(index + 0.5, scale), -0.5));
#else
  return static_cast<float>((index + 0.5) * scale - 0.5);
#endif
}

JNTRT_HD inline int crop_weight(float weight) { return static_cast<int>(rintf(weight * 2048.0f)); }  // half to even

// Columns: at the square's border the weight is clamped as well as the position.
JNTRT_HD inline Tap crop_column(int column, double scale, const Rectangle& square) {
  const float position = crop_position(column, scale);
  int first = static_cast<int>(floorf(position));
  float fraction = position - static_cast<float>(first);
  if (first < 0) {
    first = 0;
    fraction = 0.0f;
  }
  if (first >= square.side - 1) {
    first = square.side - 1;
    fraction = 0.0f;
  }
  const int second = first + 1 < square.side ? first + 1 : first;
  return {square.x + first, square.x + second, crop_weight(1.0f - fraction), crop_weight(fraction)};
}

// Rows: only the positions are clamped. The sum of the weights is the same, the roundings are not.
JNTRT_HD inline Tap crop_row(int row, double scale, const Rectangle& square) {
  const float position = crop_position(row, scale);
  const int first = static_cast<int>(floorf(position));
  const float fraction = position - static_cast<float>(first);
  const int last = square.side - 1;
  const int above = first < 0 ? 0 : (first > last ? last : first);
  const int below = first + 1 < 0 ? 0 : (first + 1 > last ? last : first + 1);
  return {square.y + above, square.y + below, crop_weight(1.0f - fraction), crop_weight(fraction)};
}

JNTRT_HD inline bool crop_shows_column(int column, const Frame& frame) {
  return column >= 0 && column < frame.width - frame.hidden;
}
JNTRT_HD inline bool crop_shows_row(int row, const Frame& frame) {
  return row >= 0 && row < frame.height - frame.hidden;
}

JNTRT_HD inline int clip_byte(int value) { return value < 0 ? 0 : (value > 255 ? 255 : value); }

// Brightness 16 … 235 and colour 16 … 240 to RGB, in units of 1/65536 cut off: within two levels of FFmpeg's swscale.
JNTRT_HD inline Colour nv12_colour(const Frame& frame, int row, int column) {
  const ptrdiff_t pair = (row >> 1) * static_cast<ptrdiff_t>(frame.chroma_row_bytes) +
                         (column >> 1) * static_cast<ptrdiff_t>(frame.chroma_column_bytes);
  const int luma =
      76309 * (frame.pixels[row * frame.row_bytes + column * static_cast<ptrdiff_t>(frame.column_bytes)] - 16);
  const int u = frame.chroma[pair] - 128, v = frame.chroma[pair + 1] - 128;
  const bool hd = frame.matrix == 1;
  const int red = luma + (hd ? 117489 : 104597) * v;
  const int green = luma - (hd ? 13975 : 25675) * u - (hd ? 34925 : 53279) * v;
  const int blue = luma + (hd ? 138438 : 132201) * u;
  return {{clip_byte(red >> 16), clip_byte(green >> 16), clip_byte(blue >> 16)}};
}

// A pixel of the frame, or the border's colour.
JNTRT_HD inline Colour crop_source(const Frame& frame, int row, int column) {
  if (!crop_shows_row(row, frame) || !crop_shows_column(column, frame))
    return {{frame.border[0], frame.border[1], frame.border[2]}};
  if (frame.chroma != nullptr) return nv12_colour(frame, row, column);
  const uint8_t* pixel = frame.pixels + row * frame.row_bytes + column * static_cast<ptrdiff_t>(frame.column_bytes);
  return {{pixel[0], pixel[1], pixel[2]}};
}

// The two horizontal sums of a pixel to its value, 0 … 255.
JNTRT_HD inline uint8_t crop_vertical(int first, int second, const Tap& row) {
  const int sum = ((row.first_weight * (first >> 4)) >> 16) + ((row.second_weight * (second >> 4)) >> 16);
  return static_cast<uint8_t>((sum + 2) >> 2);
}

// One output pixel: three bytes in the frame's channel order, or in the opposite one.
JNTRT_HD inline void crop_pixel(const Frame& frame, const Tap& row, const Tap& column, bool swap, uint8_t* out) {
  const Colour above[2] = {crop_source(frame, row.first, column.first), crop_source(frame, row.first, column.second)};
  const Colour below[2] = {crop_source(frame, row.second, column.first), crop_source(frame, row.second, column.second)};
  for (int channel = 0; channel < 3; ++channel) {
    const int first = above[0].channels[channel] * column.first_weight + above[1].channels[channel] * column.second_weight;
    const int second = below[0].channels[channel] * column.first_weight + below[1].channels[channel] * column.second_weight;
    out[swap ? 2 - channel : channel] = crop_vertical(first, second, row);
  }
}

}  // namespace jntrt
