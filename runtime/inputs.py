"""What the graphs are given: crops, what depends on the target at `init`, what depends on the state.

Arrays by tensor name, the target on the first axis.
"""

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime import geometry
from jntrt.runtime.bundle.conventions import CropSpec, StateInput
from jntrt.runtime.crop import BLACK, Colour, Image, border_colour, crop

Inputs = dict[str, NDArray[Any]]

IDLE = (0.0, 0.0, 64.0, 64.0)  # in the place of the box that an idle row of a batch has not


def crops(
    frame: Image, boxes: geometry.Boxes, spec: CropSpec, *, border: Colour = BLACK, swap: bool = False
) -> Image:
    """The crop around each of `boxes` (B of x, y, w, h): B×S×S×3 uint8; black for an idle one."""
    return cut(frame, rectangles_of(boxes, spec), spec, border=border, swap=swap)


def is_idle(box: Sequence[float]) -> bool:
    """Whether a row of a batch has no target: its box is NaN."""
    return math.isnan(box[0])


def rectangles_of(boxes: geometry.Boxes, spec: CropSpec) -> list[geometry.CropRectangle | None]:
    """The square of each box, None for an idle one."""
    return [None if is_idle(box) else geometry.crop_rectangle(box, spec) for box in boxes]


def cut(
    frame: Image,
    rectangles: Sequence[geometry.CropRectangle | None],
    spec: CropSpec,
    *,
    border: Colour,
    swap: bool,
) -> Image:
    """The crops of `rectangles`: B×S×S×3 uint8; black for None."""
    cuts = np.empty((len(rectangles), spec.size, spec.size, 3), np.uint8)
    for place, rectangle in zip(cuts, rectangles, strict=True):
        if rectangle is None:
            place[:] = 0
        else:
            crop(frame, rectangle, spec.size, swap=swap, edge=spec.edge, border=border, out=place)
    return cuts


def side_inputs(boxes: geometry.Boxes, spec: CropSpec, box_format: str, wanted: Container[str]) -> Inputs:
    """Those of `wanted` that only the target's box and the template's `spec` decide.

    `target_box`: B×4 float32, in `box_format`; `template_weights`: B×Nz float32, sum 1. An idle box has those
    of one in the middle of its crop, which nobody reads.
    """
    boxes = [IDLE if is_idle(box) else box for box in boxes]
    inputs: Inputs = {}
    if "target_box" in wanted:
        targets = [geometry.target_box_in_crop(box, spec, box_format) for box in boxes]
        inputs["target_box"] = np.array(targets, np.float32)
    if "template_weights" in wanted:
        inputs["template_weights"] = np.stack([geometry.template_weights(box, spec) for box in boxes])
    return inputs


def target_inputs(
    frame: Image, boxes: geometry.Boxes, spec: CropSpec, box_format: str, wanted: Container[str]
) -> Inputs:
    """`template` (the crops of an RGB frame) and the `side_inputs`."""
    template = crops(frame, boxes, spec, border=border_colour(frame, spec))
    return {"template": template, **side_inputs(boxes, spec, box_format, wanted)}


def state_inputs(rules: Mapping[str, StateInput], boxes: geometry.Boxes, spec: CropSpec) -> Inputs:
    """What the track graph is told of the states `boxes`; `spec` is the search crop's."""
    return {
        name: np.stack([geometry.state_input(rule, IDLE if is_idle(box) else box, spec) for box in boxes])
        for name, rule in rules.items()
    }
