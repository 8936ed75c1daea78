"""Boxes and rectangles: where to crop, and where a box of the crop lies in the frame.

Pure functions on Python floats (double precision). Boxes are (x, y, w, h) in pixels of the frame everywhere,
and (cx, cy, w, h) in units of the crop's side only where a network speaks. The choices in it are the family's
(runtime/bundle/conventions.py); the rest is common to the released trackers: half to even where something is
rounded, a box mapped back about the centre that was not rounded. native/box.h has the same arithmetic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.bundle.conventions import (
    Clip,
    Context,
    Corner,
    CropSpec,
    Edge,
    Scale,
    Side,
    StateInput,
    StateSpec,
)
from jntrt.runtime.errors import UserError

Box = tuple[float, float, float, float]
Boxes = Sequence[Sequence[float]]

PATCH = 16  # the encoders' stride, in pixels of the crop
EXEMPLAR = 127  # the template's side in SiamFC, of which the padded context speaks
MAX_SIDE = (
    1 << 16
)  # of a crop, in pixels of the frame: past any real camera, and indices stay exact in float32


@dataclass(frozen=True, slots=True)
class CropRectangle:
    """A square of the frame: corner (x, y) and side in whole pixels; it may reach over the frame's border."""

    x: int
    y: int
    side: int

    def touches(self, frame_width: int, frame_height: int, edge: Edge = Edge.OSTRACK) -> bool:
        """Whether the crop shows any pixel of the frame."""
        hidden = hidden_lines(edge)
        return (
            self.x < frame_width - hidden
            and self.y < frame_height - hidden
            and self.x + self.side > 0
            and self.y + self.side > 0
        )


def hidden_lines(edge: Edge) -> int:
    """How many of the frame's last columns, and of its last rows, never show."""
    return 1 if edge is Edge.OSTRACK else 0


def crop_rectangle(box: Sequence[float], spec: CropSpec) -> CropRectangle:
    """The square about the centre of `box` (x, y, w, h) that the crop shows.

    Raises UserError when the box is not finite, is empty, or is too small or too large to be cropped.
    """
    x, y, w, h = box
    exact = exact_side(box, spec)
    # Python's round is half to even, as the released trackers' is.
    side = math.ceil(exact) if spec.side is Side.CEIL else round(exact)
    if side < 1:
        raise UserError(f"the box {_text(box)} is too small: its crop would be empty")
    if spec.corner is Corner.FLOOR:
        half = (side + 1) * 0.5
        return CropRectangle(math.floor(x + 0.5 * w - half + 0.5), math.floor(y + 0.5 * h - half + 0.5), side)
    return CropRectangle(round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side)


def exact_side(box: Sequence[float], spec: CropSpec) -> float:
    """The side of the square that `spec` asks for around `box`, before it is rounded.

    Raises UserError when the box is not finite, is empty, or is too large to be cropped.
    """
    x, y, w, h = box
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(w) and math.isfinite(h)):
        raise UserError(f"the box {_text(box)} is not finite: give x,y,w,h as numbers")
    if w * h <= 0:  # two negative sides pass here, as in the released tracker; Tracker.init refuses them
        raise UserError(f"the box {_text(box)} is empty: width and height must be above zero")
    if spec.context is Context.PADDED:
        pad = 0.5 * (w + h)
        side = math.sqrt((w + pad) * (h + pad)) * (spec.size / EXEMPLAR)
    else:
        side = math.sqrt(w * h) * spec.factor
    if side > MAX_SIDE:
        raise UserError(f"the box {_text(box)} is too large: its crop would be over {MAX_SIDE} px wide")
    return side


def crop_span(box: Sequence[float], spec: CropSpec, rectangle: CropRectangle | None = None) -> float:
    """Pixels of the frame that one side of the crop around `box` stands for, where lengths are mapped.

    rectangle: the box's `crop_rectangle`, where it is known already.
    """
    if spec.scale is Scale.EXACT:
        return exact_side(box, spec)
    return float((rectangle or crop_rectangle(box, spec)).side)


def target_box_in_crop(box: Sequence[float], spec: CropSpec, box_format: str) -> Box:
    """The target as the target-indicating token's MLP takes it (JN): its place in its own template crop.

    `spec` is the template's. The centre is (size-1)/2, the crop's own; width and height are those of `box`
    in units of the crop. Formats: `cxcywh` (centre measured from ½),
    `cxcywh01` (centre measured from the corner), `xyxy` (corners), `xyxy01` (the same, clamped to
    [0, 1]).
    """
    side = crop_rectangle(box, spec).side
    w, h = box[2] / side, box[3] / side
    centre = (spec.size - 1) / 2 / spec.size
    if box_format == "cxcywh":
        return (centre - 0.5, centre - 0.5, w, h)
    if box_format == "cxcywh01":
        return (centre, centre, w, h)
    x1, y1, x2, y2 = centre - w / 2, centre - h / 2, centre + w / 2, centre + h / 2
    if box_format == "xyxy":
        return (x1, y1, x2, y2)
    if box_format == "xyxy01":
        return (_unit(x1), _unit(y1), _unit(x2), _unit(y2))
    raise UserError(f"target box format {box_format!r} is unknown: use cxcywh, cxcywh01, xyxy01 or xyxy")


def box_tokens(box: Sequence[float], spec: CropSpec) -> NDArray[np.bool_]:
    """The template tokens that the target covers (CE template range GT_BOX): bool, (size/16)², row-major.

    The released code fills a pixel mask by Python slices with truncated ends, so that a box longer than the
    crop has a negative start that counts from the far side, and reduces it bilinearly: the four middle
    pixels of each token decide. An empty mask is undefined there; here the centre token stands in.
    """
    size = spec.size
    # Single precision, as the released code has it here: the truncation below would show the difference.
    resize = np.float32(size / crop_rectangle(box, spec).side)
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


def template_weights(box: Sequence[float], spec: CropSpec) -> NDArray[np.float32]:
    """Template rows to average for the similarity of candidate elimination: float32 (size/16)², sum 1."""
    tokens = box_tokens(box, spec)
    weights: NDArray[np.float32] = (tokens / tokens.sum()).astype(np.float32)
    return weights


def map_box(crop_box: Sequence[float], state: Sequence[float], span: float) -> Box:
    """A box of the crop (cx, cy, w, h in units of its side) in the frame: (x, y, w, h), not clipped.

    `state` is the box that the crop was made around, `span` its `crop_span`.
    """
    cx, cy, w, h = crop_box
    w, h = w * span, h * span
    corner_x = state[0] + 0.5 * state[2] - 0.5 * span
    corner_y = state[1] + 0.5 * state[3] - 0.5 * span
    return (cx * span + corner_x - 0.5 * w, cy * span + corner_y - 0.5 * h, w, h)


def clip_box(box: Sequence[float], frame_width: int, frame_height: int, rule: StateSpec) -> Box:
    """`box` (x, y, w, h) kept in the frame as `rule` says."""
    clip = _clip_centre if rule.clip is Clip.CENTRE else _clip_box
    x, w = clip(box[0], box[2], frame_width, rule.least_size)
    y, h = clip(box[1], box[3], frame_height, rule.least_size)
    return (x, y, w, h)


def box_to_frame(
    crop_box: Sequence[float],
    state: Sequence[float],
    span: float,
    frame_width: int,
    frame_height: int,
    rule: StateSpec,
) -> Box:
    """The tracker's new state: `map_box`, then `clip_box`."""
    return clip_box(map_box(crop_box, state, span), frame_width, frame_height, rule)


def start_box(box: Sequence[float], rule: StateSpec) -> Box:
    """The state that a box given at `init` begins with."""
    x, y, w, h = box
    return (x + rule.start_shift, y + rule.start_shift, w, h)


def state_input(kind: StateInput, box: Sequence[float], spec: CropSpec) -> NDArray[np.float32]:
    """What a state input says of the state `box` before a frame; `spec` is the search crop's.

    `size`: float32 (2,), its width and height in pixels of the crop.
    """
    match kind:
        case StateInput.SIZE:
            scale = spec.size / crop_span(box, spec)
            return np.array([box[2] * scale, box[3] * scale], np.float32)


def _clip_box(start: float, length: float, limit: int, least: float) -> tuple[float, float]:
    end = min(max(least, start + length), limit)
    start = min(max(0.0, start), limit - least)
    return start, max(least, end - start)


def _clip_centre(start: float, length: float, limit: int, least: float) -> tuple[float, float]:
    centre = min(max(0.0, start + 0.5 * length), float(limit))
    length = max(least, min(length, float(limit)))
    return centre - 0.5 * length, length


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _text(box: Sequence[float]) -> str:
    return ",".join(f"{float(v):g}" for v in box)
