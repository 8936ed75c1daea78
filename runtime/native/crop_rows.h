// A crop on the host, row by row: crop.h's arithmetic, four pixels at a time where the processor has AVX2, elsewhere each
// source row's horizontal sums (by NEON on aarch64) and then their mixing, a loop that compilers vectorise.
#pragma once

#include <climits>
#include <cstring>
#include <vector>

#include "crop.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define JNTRT_AVX2 1
#include <immintrin.h>
#elif defined(__aarch64__)
#define JNTRT_NEON 1
#include <arm_neon.h>
#endif

namespace jntrt {

// The columns of one crop: taps of all, the span [begin, end) of those whose two pixels lie inside the frame beside
// each other and before its last column, and the span [lit_begin, lit_end) of those that meet the frame at all.
struct Columns {
  std::vector<Tap> taps;
  std::vector<int16_t> weights;  // per column: first and second weight, four times (one 128-bit vector)
  int begin = 0;
  int end = 0;
  int lit_begin = 0;
  int lit_end = 0;
};

inline Columns columns_of(const Frame& frame, const Rectangle& square, int size, double scale) {
  Columns columns;
  columns.taps.resize(size);
  columns.weights.resize(static_cast<size_t>(size) * 8);
  columns.begin = columns.lit_begin = size;
  for (int column = 0; column < size; ++column) {
    const Tap tap = crop_column(column, scale, square);
    columns.taps[column] = tap;
    for (int copy = 0; copy < 4; ++copy) {
      columns.weights[8 * column + 2 * copy] = static_cast<int16_t>(tap.first_weight);
      columns.weights[8 * column + 2 * copy + 1] = static_cast<int16_t>(tap.second_weight);
    }
    if (crop_shows_column(tap.first, frame) || crop_shows_column(tap.second, frame)) {
      columns.lit_begin = columns.lit_begin < column ? columns.lit_begin : column;
      columns.lit_end = column + 1;
    }
    // first + 1 and not `second`: at the square's edge both are the same pixel, the second with no weight.
    // Without the last column, whether it shows or not: two_sums reads past it.
    if (tap.first >= 0 && tap.first + 1 < frame.width - 1) {
      columns.begin = columns.begin < column ? columns.begin : column;
      columns.end = column + 1;
    }
  }
  if (columns.lit_end == 0) columns.lit_begin = 0;
  if (columns.end == 0) columns.begin = columns.end = columns.lit_begin;
  return columns;
}

#ifdef JNTRT_AVX2
// Two pixels of one row as pairs for vpmaddwd, one pixel per 128-bit lane: sums ×1/2048 of R, G, B (and a fourth
// that nobody reads), shifted right by 4 so that they fit 16 bits. Eight bytes are read per pixel where six are
// needed: neither is the frame's last column, so they lie in the same row.
__attribute__((target("avx2"))) inline __m256i two_sums(const uint8_t* row, const Tap* taps,
                                                        const int16_t* weights, __m256i pairs) {
  const __m128i left = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 3 * static_cast<ptrdiff_t>(taps[0].first)));
  const __m128i right = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 3 * static_cast<ptrdiff_t>(taps[1].first)));
  const __m256i bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(left), right, 1);
  const __m256i sums = _mm256_madd_epi16(_mm256_shuffle_epi8(bytes, pairs),
                                         _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
  return _mm256_srai_epi32(sums, 4);
}

// Columns [begin, end) of one output row; returns how far it came (a multiple of four from begin).
__attribute__((target("avx2"))) inline int row_avx2(const uint8_t* first_row, const uint8_t* second_row, const Tap& row,
                                             const Columns& columns, int begin, int end, bool swap, uint8_t* out) {
  // R0 R1 G0 G1 B0 B1 of the bytes R0 G0 B0 R1 G1 B1, each widened to 16 bits; -1 gives a zero.
  const __m128i straight = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
  const __m128i swapped = _mm_setr_epi8(2, -1, 5, -1, 1, -1, 4, -1, 0, -1, 3, -1, -1, -1, -1, -1);
  const __m256i pairs = _mm256_broadcastsi128_si256(swap ? swapped : straight);
  const __m256i heights = _mm256_broadcastsi128_si256(_mm_setr_epi16(
      row.first_weight, row.first_weight, row.first_weight, row.first_weight, row.second_weight,
      row.second_weight, row.second_weight, row.second_weight));
  const __m256i two = _mm256_set1_epi16(2);
  const __m128i compact = _mm_setr_epi8(0, 1, 2, 8, 9, 10, 4, 5, 6, 12, 13, 14, -1, -1, -1, -1);
  int column = begin;
  for (; column + 4 <= end; column += 4) {
    const Tap* taps = columns.taps.data() + column;
    const int16_t* weights = columns.weights.data() + 8 * column;
    // Per lane: the first row's four sums, then the second row's; vpmulhw is the (b·h) >> 16 of crop_vertical.
    const __m256i near = _mm256_mulhi_epi16(
        _mm256_packs_epi32(two_sums(first_row, taps, weights, pairs), two_sums(second_row, taps, weights, pairs)),
        heights);
    const __m256i far = _mm256_mulhi_epi16(
        _mm256_packs_epi32(two_sums(first_row, taps + 2, weights + 16, pairs),
                           two_sums(second_row, taps + 2, weights + 16, pairs)),
        heights);
    __m256i sums = _mm256_add_epi16(_mm256_unpacklo_epi64(near, far), _mm256_unpackhi_epi64(near, far));
    sums = _mm256_srai_epi16(_mm256_add_epi16(sums, two), 2);
    // Pixels 0 and 2 in the low lane, 1 and 3 in the high one.
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const __m128i pixels = _mm_shuffle_epi8(bytes, compact);
    uint8_t* target = out + 3 * column;
    _mm_storel_epi64(reinterpret_cast<__m128i*>(target), pixels);
    const int last_pixels = _mm_extract_epi32(pixels, 2);
    std::memcpy(target + 8, &last_pixels, 4);
  }
  return column;
}
#endif

// One source row's horizontal sums of the columns [begin, end), ×1/128 so that they fit 16 bits: three to a column. NEON
// reads eight bytes per pixel where six are needed, as two_sums, and writes four sums, the last of which nobody reads.
inline void row_sums(const uint8_t* row, const Columns& columns, int begin, int end, bool swap, int16_t* out) {
#ifdef JNTRT_NEON
  const uint8_t orders[2][8] = {{0, 1, 2, 2, 3, 4, 5, 5}, {2, 1, 0, 0, 5, 4, 3, 3}};
  const uint8x8_t order = vld1_u8(orders[swap]);
  for (int column = begin; column < end; ++column, out += 3) {
    const Tap& tap = columns.taps[column];
    const uint8x8_t bytes = vld1_u8(row + 3 * static_cast<ptrdiff_t>(tap.first));
    const int16x8_t pixels = vreinterpretq_s16_u16(vmovl_u8(vtbl1_u8(bytes, order)));
    const int32x4_t first = vmull_n_s16(vget_low_s16(pixels), static_cast<int16_t>(tap.first_weight));
    const int32x4_t sums = vmlal_n_s16(first, vget_high_s16(pixels), static_cast<int16_t>(tap.second_weight));
    vst1_s16(out, vshrn_n_s32(sums, 4));
  }
#else
  const int red = swap ? 2 : 0;
  for (int column = begin; column < end; ++column, out += 3) {
    const Tap& tap = columns.taps[column];
    const uint8_t* pixels = row + 3 * static_cast<ptrdiff_t>(tap.first);
    out[0] = static_cast<int16_t>((pixels[red] * tap.first_weight + pixels[3 + red] * tap.second_weight) >> 4);
    out[1] = static_cast<int16_t>((pixels[1] * tap.first_weight + pixels[4] * tap.second_weight) >> 4);
    out[2] = static_cast<int16_t>((pixels[2 - red] * tap.first_weight + pixels[5 - red] * tap.second_weight) >> 4);
  }
#endif
}

// crop_vertical over `count` sums of two rows; 16-bit products of which the upper half counts, as vector units have them.
inline void mix_rows(const int16_t* __restrict__ first, const int16_t* __restrict__ second, const Tap& row, int count,
              uint8_t* __restrict__ out) {
  const int16_t above = static_cast<int16_t>(row.first_weight), below = static_cast<int16_t>(row.second_weight);
  for (int i = 0; i < count; ++i) {
    const int16_t sum = static_cast<int16_t>(static_cast<int16_t>((above * first[i]) >> 16) +
                                             static_cast<int16_t>((below * second[i]) >> 16));
    out[i] = static_cast<uint8_t>(static_cast<int16_t>(sum + 2) >> 2);
  }
}

// The sums of the two source rows that an output row reads. Neighbouring output rows read the same ones.
struct RowSums {
  std::vector<int16_t> sums[2];
  int rows[2] = {INT_MIN, INT_MIN};

  // The sums of `row`, by now or from before; `other` is the row that has to stay.
  const int16_t* of(int row, int other, const uint8_t* pixels, const Columns& columns, bool swap) {
    for (int i = 0; i < 2; ++i)
      if (rows[i] == row) return sums[i].data();
    const int place = rows[0] == other ? 1 : 0;
    sums[place].resize(3 * static_cast<size_t>(columns.end - columns.begin) + 1);
    rows[place] = row;
    row_sums(pixels, columns, columns.begin, columns.end, swap, sums[place].data());
    return sums[place].data();
  }
};

inline void fill(uint8_t* out, int count, const uint8_t colour[3]) {
  for (int x = 0; x < count; ++x, out += 3) std::memcpy(out, colour, 3);
}

inline void crop_rows(const Frame& frame, const Rectangle& square, int size, bool swap, bool portable, uint8_t* out) {
  const double scale = crop_scale(square.side, size);
  const Columns columns = columns_of(frame, square, size, scale);
  // A pixel that only reads the border has its colour: what its two roundings lose never reaches the next level.
  const uint8_t* border = frame.border;
  const uint8_t shown[3] = {border[swap ? 2 : 0], border[1], border[swap ? 0 : 2]};
#ifdef JNTRT_AVX2
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  const bool avx2 = has_avx2 && !portable;
#else
  (void)portable;
#endif
  // A row of the frame outside it reads as this one.
  std::vector<uint8_t> outside(static_cast<size_t>(frame.width) * 3);
  fill(outside.data(), frame.width, border);
  RowSums kept;
  for (int y = 0; y < size; ++y, out += 3 * static_cast<ptrdiff_t>(size)) {
    const Tap row = crop_row(y, scale, square);
    const bool first_shows = crop_shows_row(row.first, frame);
    const bool second_shows = crop_shows_row(row.second, frame);
    if (!first_shows && !second_shows) {
      fill(out, size, shown);
      continue;
    }
    const uint8_t* first_row = first_shows ? frame.pixels + row.first * frame.row_bytes : outside.data();
    const uint8_t* second_row = second_shows ? frame.pixels + row.second * frame.row_bytes : outside.data();
    int done = columns.end;
#ifdef JNTRT_AVX2
    if (avx2) done = row_avx2(first_row, second_row, row, columns, columns.begin, columns.end, swap, out);
    if (!avx2)
#endif
    {
      const int16_t* first = kept.of(row.first, row.second, first_row, columns, swap);
      const int16_t* second = kept.of(row.second, row.first, second_row, columns, swap);
      mix_rows(first, second, row, 3 * (columns.end - columns.begin), out + 3 * columns.begin);
    }
    fill(out, columns.lit_begin, shown);
    for (int x = columns.lit_begin; x < columns.begin; ++x) crop_pixel(frame, row, columns.taps[x], swap, out + 3 * x);
    for (int x = done; x < columns.lit_end; ++x) crop_pixel(frame, row, columns.taps[x], swap, out + 3 * x);
    fill(out + 3 * columns.lit_end, size - columns.lit_end, shown);
  }
}

}  // namespace jntrt
