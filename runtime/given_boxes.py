"""Targets' boxes as a user gives them: checked before a crop is cut around them."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.errors import TrackerError
from jntrt.runtime.geometry import Box, crop_rectangle

MAX_COORDINATE = 1e6  # pixels; a crop's pixels are counted in 32 bits


def rows_of(boxes: ArrayLike) -> NDArray[np.float64]:
    """Boxes as an array, a row for each. Raises TrackerError for what is no numbers."""
    try:
        return np.atleast_2d(np.asarray(boxes, np.float64))
    except (TypeError, ValueError, OverflowError):  # no numbers, rows of different lengths, 10⁴⁰⁰
        raise TrackerError(f"a box is four numbers x,y,w,h in pixels, not {_short(boxes)}") from None


def checked_boxes(
    boxes: ArrayLike, bundle: Bundle, width: int, height: int, *, least: int = 1, most: int | None = None
) -> list[Box]:
    """`least` to `most` boxes x, y, w, h (None: as many as the bundle's batch) in a frame of width×height.

    Raises TrackerError for another number of them, and for one that cannot be tracked there.
    """
    array = rows_of(boxes)
    most = bundle.batch if most is None else most
    if array.ndim != 2 or array.shape[1] != 4 or not least <= len(array) <= most:
        count = f"{least} to {most}" if least < most else f"{most}"
        raise TrackerError(
            f"bundle {bundle.name} tracks {bundle.batch} target(s) at once: give {count}"
            f" boxes x,y,w,h here, not an array of shape {np.shape(boxes)}"
        )
    checked: list[Box] = [(x, y, w, h) for x, y, w, h in array.tolist()]
    for box in checked:
        text = ",".join(f"{v:g}" for v in box)
        if any(math.isfinite(value) and abs(value) > MAX_COORDINATE for value in box[:2]):
            raise TrackerError(f"the box {text} lies outside any frame: give x,y,w,h in pixels")
        if not (box[2] > 0 and box[3] > 0):
            raise TrackerError(f"the box {text} is empty: width and height must be above zero")
        if not crop_rectangle(box, bundle.template).touches(width, height, bundle.template.edge):
            raise TrackerError(f"the box {text} lies outside the frame of {width}×{height} pixels")
    return checked


def _short(value: object) -> str:
    return " ".join(ascii(value)[:60].split()) if isinstance(value, str | int) else type(value).__name__
