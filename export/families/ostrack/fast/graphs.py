"""From a recipe and weights to the two static ONNX graphs of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from jntrt.export.families.ostrack.fast.encoder import FastEncoder
from jntrt.export.families.ostrack.fast.heads import FastHead
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.writer import FLOAT, UINT8, OnnxWriter


def build_graphs(
    recipe: Recipe, weights: Mapping[str, NDArray[Any]], batch: int = 1, *, head_from_map: bool = False
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The template graph and the track graph of a tracker, float32, exact up to rounding.

    weights: the checkpoint's tensors by name, complete for the recipe (`networks.ostrack.load_weights` says
    what is missing); floating ones float32. batch: targets per frame, fixed in the graphs. head_from_map: as
    `FastHead`, which no bundle of a checkpoint has.

    template: `template` uint8 B×Sz×Sz×3 (and `target_box` float32 B×4 for a recipe with a target-indicating
    token) → memory tensors.
    track: `search` uint8 B×Sx×Sx×3, the memory tensors under the same names (and `template_weights` float32
    B×Nz if it ranks by the box's template tokens) → `box` float32 B×4 (cx, cy, w, h in units of the
    search crop) and `score` float32 B.
    """
    template = OnnxWriter("template", weights)
    encoder = FastEncoder(template, recipe, weights, batch)
    image = template.input("template", UINT8, (batch, recipe.template_size, recipe.template_size, 3))
    target_box = template.input("target_box", FLOAT, (batch, 4)) if recipe.target_hidden else None
    shapes = {
        "memory_tokens": (batch, encoder.context, recipe.dim),
        "memory_qkv": (batch, 3 * recipe.heads, encoder.context, encoder.head_dim),
    }
    memory = encoder.memory(image, target_box)
    for name, value in memory.items():
        template.output(value, name, FLOAT, shapes[name])

    track = OnnxWriter("track", weights)
    search = track.input("search", UINT8, (batch, recipe.search_size, recipe.search_size, 3))
    remembered = {name: track.input(name, FLOAT, shapes[name]) for name in memory}
    template_weights = None
    if uses_template_weights(recipe):
        template_weights = track.input("template_weights", FLOAT, (batch, recipe.template_count))
    tokens, cells = FastEncoder(track, recipe, weights, batch).encode(search, remembered, template_weights)
    box, score = FastHead(track, recipe, weights, batch, from_map=head_from_map).predict(tokens, cells)
    track.output(box, "box", FLOAT, (batch, 4))
    track.output(score, "score", FLOAT, (batch,))
    return template.model({}), track.model({})


def uses_template_weights(recipe: Recipe) -> bool:
    """Whether the track graph takes `template_weights`: it ranks by the box's template tokens."""
    return recipe.template_tokens == "box" and bool(recipe.keep_counts)
