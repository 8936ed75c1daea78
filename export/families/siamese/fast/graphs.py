"""From a recipe and weights to the two static ONNX graphs of a bundle."""

from __future__ import annotations

import numpy as np
import onnx

from jntrt.export.families.siamese.fast.backbones import mobilenet, resnet
from jntrt.export.families.siamese.fast.decode import decode
from jntrt.export.families.siamese.fast.fold import Weights
from jntrt.export.families.siamese.fast.hne import KERNEL_SIDE, HneHead
from jntrt.export.families.siamese.fast.nanotrack import NanoTrackHead
from jntrt.export.families.siamese.plain.hne import DISTANCE_UNIT, LEVELS
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.export.onnx.value import Value
from jntrt.export.onnx.writer import FLOAT, UINT8, OnnxWriter

ALLOWED = ("Exp",)  # distances and the penalty are exponentials, no softmax written out


def build_graphs(recipe: Recipe, weights: Weights, batch: int = 1) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The template graph and the track graph of a tracker, float32, exact up to rounding.

    weights: the checkpoint's tensors by name, complete for the recipe; floating ones float32. batch: targets
    per frame, fixed in the graphs.

    template: `template` uint8 B×Sz×Sz×3 → memory tensors (the target's kernels).
    track: `search` uint8 B×Sx×Sx×3, the memory tensors under the same names, `previous_size` float32 B×2 (w
    and h of the previous box in pixels of the search crop) → `box` float32 B×4 (cx, cy, w, h in units of the
    search crop: what the state becomes before it is clipped) and `score` float32 B.
    """
    head = HneHead(recipe, weights, batch) if recipe.is_hne else NanoTrackHead(recipe, weights, batch)
    shapes = memory_shapes(recipe, batch)

    template = OnnxWriter("template", weights)
    crop = template.input("template", UINT8, (batch, recipe.template_size, recipe.template_size, 3))
    if isinstance(head, HneHead):
        memory = head.memory(resnet(crop, recipe, weights))
    else:
        memory = head.memory(mobilenet(crop, recipe, weights))
    for name, value in memory.items():
        template.output(value, name, FLOAT, shapes[name])

    track = OnnxWriter("track", weights, allowed=ALLOWED)
    crop = track.input("search", UINT8, (batch, recipe.search_size, recipe.search_size, 3))
    remembered = {name: track.input(name, FLOAT, shapes[name]) for name in memory}
    previous_size = track.input("previous_size", FLOAT, (batch, 2))
    if isinstance(head, HneHead):
        logit, centerness, reach = head.maps(resnet(crop, recipe, weights), remembered)
    else:
        logit, reach = head.maps(mobilenet(crop, recipe, weights), remembered)
        centerness = None
    with track.scope("head"), track.role("float32"):
        score, distances = _activated(logit, centerness, reach)
        box, presence = decode(score, distances, previous_size, recipe, batch)
    track.output(box, "box", FLOAT, (batch, 4))
    track.output(presence, "score", FLOAT, (batch,))
    return template.model({}), track.model({})


def memory_shapes(recipe: Recipe, batch: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every memory tensor."""
    cells, side = recipe.template_side**2, recipe.template_side // 2
    if recipe.is_hne:
        shape = (batch, recipe.width, KERNEL_SIDE, KERNEL_SIDE)
        return {f"memory_{level}_{branch}": shape for level in LEVELS for branch in ("cls", "reg")}
    if recipe.version == "nanotrack-v1":
        return {"memory_pw": (batch, cells, recipe.width)}
    shapes: dict[str, tuple[int, ...]] = {}
    for branch in ("cls", "reg"):
        shapes[f"memory_pw_{branch}"] = (batch, cells, recipe.width)
        shapes[f"memory_bias_{branch}"] = (batch, cells, 1)
        if recipe.version == "nanotrack-v3":
            shapes[f"memory_dw_{branch}"] = (batch, recipe.width, side, side)
    return shapes


def _activated(logit: Value, centerness: Value | None, reach: Value) -> tuple[Value, Value]:
    """Score B×1×n×n, named `head/score_map`, and distances B×4×n×n in instance pixels."""
    score = logit.sigmoid("score_map" if centerness is None else "foreground")
    distances = reach.exp("exp")
    if centerness is not None:
        score = (score * centerness.sigmoid("centerness/sigmoid")).named("score_map")
        unit = logit.graph.constant(np.float32(DISTANCE_UNIT), "distance_unit")
        distances = (distances * unit).named("distances")
    return score.marked("interior"), distances
