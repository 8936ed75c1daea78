"""Boxes and rectangles: where to crop, and where a box of the crop lies in the frame.

Pure functions on Python floats (double precision). Boxes are (x, y, w, h) in pixels of the frame everywhere,
and (cx, cy, w, h) in units of the crop's side only where a network speaks. The arithmetic is that of the
authors' released OSTrack tracker, with its habits: half to even when a corner is rounded, a box mapped back
about the centre that was not rounded, a margin of 10 px when it is clipped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jntrt.runtime.errors import UserError
from numpy.typing import NDArray

Box = tuple[float, float, float, float]

PATCH = 16  # the encoders' stride, in pixels of the crop
CLIP_MARGIN = 10.0  # pixels of a box that stay inside the frame
MAX_SIDE = (
    1 << 16
)  # of a crop, in pixels of the frame: past any real camera, and indices stay exact in float32


@dataclass(frozen=True, slots=True)
class CropRectangle:
    """A square of the frame: corner (x, y) and side in whole pixels; it may reach over the frame's border."""

    x: int
    y: int
    side: int

    def touches(self, frame_width: int, frame_height: int) -> bool:
        """Whether the crop shows any pixel of the frame (whose last column and row never show)."""
        return (
            self.x < frame_width - 1
            and self.y < frame_height - 1
            and self.x + self.side > 0
            and self.y + self.side > 0
        )


def crop_rectangle(box: Sequence[float], factor: float) -> CropRectangle:
    """The square of side ceil(sqrt(w·h)·factor) about the centre of `box` (x, y, w, h).

    Raises UserError when the box is not finite, is empty, or is too large to be cropped.
    """
    x, y, w, h = box
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(w) and math.isfinite(h)):
        raise UserError(f"the box {_text(box)} is not finite: give x,y,w,h as numbers")
    if w * h <= 0:  # two negative sides pass here, as in the released tracker; Tracker.init refuses them
        raise UserError(f"the box {_text(box)} is empty: width and height must be above zero")
    exact_side = math.sqrt(w * h) * factor
    if exact_side > MAX_SIDE:
        raise UserError(f"the box {_text(box)} is too large: its crop would be over {MAX_SIDE} px wide")
    side = math.ceil(exact_side)
    # Python's round is half to even, as the released tracker's is.
    return CropRectangle(round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side)


def target_box_in_crop(box: Sequence[float], factor: float, size: int, box_format: str) -> Box:
    """The target as the target-indicating token's MLP takes it (JN): its place in its own template crop.

    `size` is the crop's side in pixels of the network's input. The centre is (size-1)/2, the crop's own;
    width and height are those of `box` in units of the crop. Formats: `cxcywh` (centre measured from ½),
    `cxcywh01` (centre measured from the corner), `xyxy01` (corners, clamped to [0, 1]).
    """
    side = crop_rectangle(box, factor).side
    w, h = box[2] / side, box[3] / side
    centre = (size - 1) / 2 / size
    if box_format == "cxcywh":
        return (centre - 0.5, centre - 0.5, w, h)
    if box_format == "cxcywh01":
        return (centre, centre, w, h)
    if box_format == "xyxy01":
        x1, y1, x2, y2 = centre - w / 2, centre - h / 2, centre + w / 2, centre + h / 2
        return (_unit(x1), _unit(y1), _unit(x2), _unit(y2))
    raise UserError(f"target box format {box_format!r} is unknown: use cxcywh, cxcywh01 or xyxy01")


def box_tokens(box: Sequence[float], factor: float, size: int) -> NDArray[np.bool_]:
    """The template tokens that the target covers (CE template range GT_BOX): bool, (size/16)², row-major.

    The released code fills a pixel mask by Python slices with truncated ends, so that a box longer than the
    crop has a negative start that counts from the far side, and reduces it bilinearly: the four middle
    pixels of each token decide. An empty mask is undefined there; here the centre token stands in.
    """
    # Single precision, as the released code has it here: the truncation below would show the difference.
    resize = np.float32(size / crop_rectangle(box, factor).side)
    w, h = np.float32(box[2]) * resize, np.float32(box[3]) * resize
    centre = np.float32((size - 1) / 2)
    units = np.array([centre - np.float32(0.5) * w, centre - np.float32(0.5) * h, w, h], np.float32)
    x, y, w_px, h_px = (float(v) for v in units / np.float32(size) * np.float32(size))
    pixels = np.zeros((size, size), dtype=bool)
    pixels[int(y) : int(y + h_px - 1), int(x) : int(x + w_px - 1)] = True
    middle = PATCH // 2
    rows = pixels[middle - 1 :: PATCH] | pixels[middle::PATCH]
    tokens = rows[:, middle - 1 :: PATCH] | rows[:, middle::PATCH]
    if not tokens.any():
        centre_token = (size // PATCH - 1) // 2
        tokens[centre_token, centre_token] = True
    return tokens.reshape(-1)


def template_weights(box: Sequence[float], factor: float, size: int) -> NDArray[np.float32]:
    """Template rows to average for the similarity of candidate elimination: float32 (size/16)², sum 1."""
    tokens = box_tokens(box, factor, size)
    weights: NDArray[np.float32] = (tokens / tokens.sum()).astype(np.float32)
    return weights


def map_box(crop_box: Sequence[float], state: Sequence[float], side: float) -> Box:
    """A box of the crop (cx, cy, w, h in units of its side) in the frame: (x, y, w, h), not clipped.

    `state` is the box that the crop was made around, `side` the crop's side in pixels of the frame
    (network size / resize factor).
    """
    cx, cy, w, h = crop_box
    w, h = w * side, h * side
    corner_x = state[0] + 0.5 * state[2] - 0.5 * side
    corner_y = state[1] + 0.5 * state[3] - 0.5 * side
    return (cx * side + corner_x - 0.5 * w, cy * side + corner_y - 0.5 * h, w, h)


def clip_box(box: Sequence[float], frame_width: int, frame_height: int) -> Box:
    """`box` (x, y, w, h) cut to the frame, at least 10 px of it inside, and at least 10 px wide and high."""
    x, w = _clip(box[0], box[2], frame_width)
    y, h = _clip(box[1], box[3], frame_height)
    return (x, y, w, h)


def box_to_frame(
    crop_box: Sequence[float], state: Sequence[float], side: float, frame_width: int, frame_height: int
) -> Box:
    """The tracker's new state: `map_box`, then `clip_box`."""
    return clip_box(map_box(crop_box, state, side), frame_width, frame_height)


def _clip(start: float, length: float, limit: int) -> tuple[float, float]:
    end = min(max(CLIP_MARGIN, start + length), limit)
    start = min(max(0.0, start), limit - CLIP_MARGIN)
    return start, max(CLIP_MARGIN, end - start)


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _text(box: Sequence[float]) -> str:
    return ",".join(f"{float(v):g}" for v in box)
