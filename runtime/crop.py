"""The crop that the networks see: a square of the frame, one colour outside it, resized to the input's size.

Two paths with the same bytes: the fused native one, and OpenCV's where the package was installed without a
compiler. Both equal the released trackers' crops (OpenCV's INTER_LINEAR on uint8, 4.10 and 5.0 alike).
Whether the frame's last column and row count as outside is the family's choice (`Edge`).
"""

import importlib
from types import ModuleType

import cv2
import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.bundle.conventions import Border, CropSpec, Edge
from jntrt.runtime.geometry import CropRectangle, hidden_lines


def _import_native() -> ModuleType | None:
    try:
        return importlib.import_module("jntrt.runtime._native")
    except ModuleNotFoundError:  # installed without a compiler
        return None


_native = _import_native()

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]  # in the frame's order of channels

BLACK: Colour = (0, 0, 0)


def crop(
    frame: Image,
    rectangle: CropRectangle,
    size: int,
    *,
    swap: bool = False,
    edge: Edge = Edge.OSTRACK,
    border: Colour = BLACK,
    out: Image | None = None,
) -> Image:
    """`rectangle` of `frame` (H×W×3 uint8) as size×size×3 uint8, `border` where it leaves the frame.

    The channels keep their order, or change it (BGR to RGB) with `swap`. A rectangle without any pixel of the
    frame is all border. out: where to put it, and what is returned then; page-locked memory for a GPU, say.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    if _native is None:
        out[:] = crop_opencv(frame, rectangle, size, swap=swap, edge=edge, border=border)
        return out
    if not rectangle.touches(frame.shape[1], frame.shape[0], edge):  # native code counts in int32
        out[:] = border[::-1] if swap else border
        return out
    if frame.strides[1:] != (3, 1) or frame.strides[0] < 0:
        frame = np.ascontiguousarray(frame)
    _native.crop(frame, out, rectangle.x, rectangle.y, rectangle.side, swap, hidden_lines(edge), border)
    return out


def crop_opencv(
    frame: Image,
    rectangle: CropRectangle,
    size: int,
    *,
    swap: bool = False,
    edge: Edge = Edge.OSTRACK,
    border: Colour = BLACK,
) -> Image:
    """`crop` by way of a padded copy and OpenCV's resize: the native path's reference, the same bytes."""
    height, width = (length - hidden_lines(edge) for length in frame.shape[:2])
    side = rectangle.side
    left, top = max(rectangle.x, 0), max(rectangle.y, 0)
    right, bottom = min(rectangle.x + side, width), min(rectangle.y + side, height)
    if left >= right or top >= bottom:
        return np.full((size, size, 3), border[::-1] if swap else border, np.uint8)
    padded = np.full((side, side, 3), border, np.uint8)
    inside = frame[top:bottom, left:right]
    padded[top - rectangle.y : bottom - rectangle.y, left - rectangle.x : right - rectangle.x] = inside
    resized = cv2.resize(padded, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized[..., ::-1] if swap else resized, dtype=np.uint8)


def border_colour(frame: Image, spec: CropSpec) -> Colour:
    """What crops of a target that `frame` (H×W×3) introduced show outside the frame."""
    if spec.border is Border.ZERO:
        return BLACK
    height, width = frame.shape[:2]
    # OpenCV's sums, exact in float64, take 0.2 ms of a 1080p frame where NumPy's take 25.
    red, green, blue, _ = cv2.sumElems(np.ascontiguousarray(frame))
    return (int(red) // (height * width), int(green) // (height * width), int(blue) // (height * width))
