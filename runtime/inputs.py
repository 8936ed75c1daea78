"""What the graphs are given: crops, what depends on the target at `init`, what depends on the state.

Arrays by tensor name, the target on the first axis.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime import geometry
from jntrt.runtime.bundle.conventions import CropSpec, StateInput
from jntrt.runtime.crop import BLACK, Colour, Image, border_colour, crop

Inputs = dict[str, NDArray[Any]]


def crops(
    frame: Image, boxes: geometry.Boxes, spec: CropSpec, *, border: Colour = BLACK, swap: bool = False
) -> Image:
    """The crop around each of `boxes` (B of x, y, w, h): B×S×S×3 uint8."""
    rectangles = [geometry.crop_rectangle(box, spec) for box in boxes]
    return cut(frame, rectangles, spec, border=border, swap=swap)


def cut(
    frame: Image, rectangles: Sequence[geometry.CropRectangle], spec: CropSpec, *, border: Colour, swap: bool
) -> Image:
    """The crops of `rectangles`: B×S×S×3 uint8."""
    cuts = [
        crop(frame, rectangle, spec.size, swap=swap, edge=spec.edge, border=border)
        for rectangle in rectangles
    ]
    return cuts[0][None] if len(cuts) == 1 else np.stack(cuts)  # one target's crop is not copied


def side_inputs(boxes: geometry.Boxes, spec: CropSpec, box_format: str, wanted: Container[str]) -> Inputs:
    """Those of `wanted` that only the target's box and the template's `spec` decide.

    `target_box`: B×4 float32, in `box_format`; `template_weights`: B×Nz float32, sum 1.
    """
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
        name: np.stack([geometry.state_input(rule, box, spec) for box in boxes])
        for name, rule in rules.items()
    }
