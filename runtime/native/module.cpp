// The native module of jntrt.runtime: what Python calls, its arguments looked at.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>

#include <array>
#include <stdexcept>

#include "crop_rows.h"

namespace nb = nanobind;

namespace jntrt {
namespace {

constexpr int kMaxSize = 4096;     // of a crop: past any network
constexpr int kMaxSide = 1 << 16;  // of its square in the frame, as in geometry.py

using FrameArray = nb::ndarray<const uint8_t, nb::shape<-1, -1, 3>, nb::device::cpu>;
using CropArray = nb::ndarray<uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;

using Colour = std::array<uint8_t, 3>;

void crop(FrameArray array, CropArray out, int x, int y, int side, bool swap, int hidden, Colour border,
          bool portable) {
  if (array.stride(2) != 1 || array.stride(1) != 3) throw std::invalid_argument("a frame's rows must be contiguous");
  if (array.shape(0) > kMaxSide || array.shape(1) > kMaxSide) throw std::invalid_argument("the frame is too large");
  if (out.shape(0) != out.shape(1) || out.shape(0) < 1 || out.shape(0) > kMaxSize)
    throw std::invalid_argument("a crop is a square of 1 to 4096 pixels");
  if (side < 1 || side > kMaxSide) throw std::invalid_argument("a crop's side must be 1 to 65536 pixels");
  if (hidden < 0 || hidden > 1) throw std::invalid_argument("a frame hides no column and row, or one");
  constexpr int limit = 1 << 29;  // far outside any frame, and x + side still fits
  if (x < -limit || x > limit || y < -limit || y > limit) throw std::invalid_argument("the crop is out of reach");
  const Frame frame{array.data(), static_cast<int>(array.shape(1)), static_cast<int>(array.shape(0)),
                    static_cast<ptrdiff_t>(array.stride(0)), hidden, {border[0], border[1], border[2], 0}};
  const Rectangle square{x, y, side};
  nb::gil_scoped_release unlocked;
  crop_rows(frame, square, static_cast<int>(out.shape(0)), swap, portable, out.data());
}

}  // namespace
}  // namespace jntrt

NB_MODULE(_native, m) {
  m.doc() = "Native parts of jntrt.runtime.";
  m.def("crop", &jntrt::crop, nb::arg("frame").noconvert(), nb::arg("out").noconvert(), nb::arg("x"), nb::arg("y"),
        nb::arg("side"), nb::arg("swap"), nb::arg("hidden"), nb::arg("border"),
        nb::arg("portable") = false,
        "Fill `out` (size×size×3 uint8) with the square at (x, y) of `frame` (H×W×3 uint8), `border` outside;"
        " `portable` without AVX2, the same bytes.");
}
