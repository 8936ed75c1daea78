// crop_rows.h as a program, for processors that are emulated: cases from the standard input, their crops to its output.
// A case: eleven 32-bit numbers (width, height, hidden, three of the border, x, y, side, size, swap), the frame's bytes.
#include <cstdio>

#include "crop_rows.h"

int main() {
  int32_t n[11];
  while (std::fread(n, sizeof n, 1, stdin) == 1) {
    std::vector<uint8_t> pixels(3 * static_cast<size_t>(n[0]) * n[1]), out(3 * static_cast<size_t>(n[9]) * n[9]);
    if (std::fread(pixels.data(), pixels.size(), 1, stdin) != 1) return 1;
    const auto colour = [&](int i) { return static_cast<uint8_t>(n[3 + i]); };
    const jntrt::Frame frame{pixels.data(), n[0], n[1], 3 * n[0], n[2], {colour(0), colour(1), colour(2), 0}};
    jntrt::crop_rows(frame, {n[6], n[7], n[8]}, n[9], n[10] != 0, false, out.data());
    if (std::fwrite(out.data(), out.size(), 1, stdout) != 1) return 1;
  }
  return 0;
}
