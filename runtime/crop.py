"""The crop that the networks see: a square of the frame, zero outside it, resized to the network's input.

Two paths with the same bytes: the fused native one, and OpenCV's where the package was installed without a
compiler. Both equal the released tracker's crops (OpenCV's INTER_LINEAR on uint8, 4.10 and 5.0 alike), with
its habit that the frame's last column and row count as padding.
"""

import importlib
from types import ModuleType

import cv2
import numpy as np
from jntrt.runtime.geometry import CropRectangle
from numpy.typing import NDArray


def _import_native() -> ModuleType | None:
    try:
        return importlib.import_module("jntrt.runtime._native")
    except ModuleNotFoundError:  # installed without a compiler
        return None


_native = _import_native()

Image = NDArray[np.uint8]


def crop(frame: Image, rectangle: CropRectangle, size: int, *, swap: bool = False) -> Image:
    """`rectangle` of `frame` (H×W×3 uint8) as size×size×3 uint8, black where it leaves the frame.

    The channels keep their order, or change it (BGR to RGB) with `swap`. A rectangle without any pixel of the
    frame is black.
    """
    if _native is None:
        return crop_opencv(frame, rectangle, size, swap=swap)
    if frame.strides[1:] != (3, 1) or frame.strides[0] < 0:
        frame = np.ascontiguousarray(frame)
    out = np.empty((size, size, 3), np.uint8)
    _native.crop(frame, out, rectangle.x, rectangle.y, rectangle.side, swap)
    return out


def crop_opencv(frame: Image, rectangle: CropRectangle, size: int, *, swap: bool = False) -> Image:
    """`crop` by way of a padded copy and OpenCV's resize: the native path's reference, the same bytes."""
    height, width = frame.shape[:2]
    side = rectangle.side
    left, top = max(rectangle.x, 0), max(rectangle.y, 0)
    right, bottom = min(rectangle.x + side, width - 1), min(rectangle.y + side, height - 1)
    if left >= right or top >= bottom:
        return np.zeros((size, size, 3), np.uint8)
    padded = np.zeros((side, side, 3), np.uint8)
    inside = frame[top:bottom, left:right]
    padded[top - rectangle.y : bottom - rectangle.y, left - rectangle.x : right - rectangle.x] = inside
    resized = cv2.resize(padded, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized[..., ::-1] if swap else resized, dtype=np.uint8)
