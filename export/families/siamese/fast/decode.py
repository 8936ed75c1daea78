"""The decoding in its fast form, all of it float32 in every precision: maps → `box` and `score`."""

from __future__ import annotations

import numpy as np

from jntrt.export.families.siamese.fast.fold import f32
from jntrt.export.families.siamese.plain.decode import points, window
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.export.onnx.layers import concat
from jntrt.export.onnx.value import Value


def decode(
    score: Value, distances: Value, previous_size: Value, recipe: Recipe, batch: int
) -> tuple[Value, Value]:
    """As the plain `decode.decode`: score B×1×n×n, distances B×4×n×n, previous_size B×2 → `box`, `score`.

    Sums of slices and no matrix products: TensorRT has none in float32 on Turing.
    """
    graph, cells = score.graph, recipe.map_side**2

    def number(value: float, name: str) -> Value:
        return graph.constant(np.float32(value), name)

    presence = score.reshape(batch, 1, cells, name="presence")
    sides = distances.reshape(batch, 4, cells, name="sides")
    left_top, right_bottom = sides.split([2, 2], axis=1, names=("near", "far"))
    size = (left_top + right_bottom).named("size")
    before = previous_size.reshape(batch, 2, 1, name="previous")
    with graph.scope("penalty"):
        ratio, context = _shape(size, "cell")
        ratio_before, context_before = _shape(before, "previous")
        aspect = _either(ratio, ratio_before, "aspect")
        scale = _either(context, context_before, "scale").sqrt("scale")
        change = ((aspect * scale).named("product") - number(1, "one")).named("change")
        penalty = (change * number(-recipe.penalty_k, "k")).named("exponent").exp()
    weighted = (penalty * presence).named("weighted")
    influence = recipe.window_influence
    hann = graph.constant(f32(influence * window(recipe).reshape(1, 1, cells)), "window")
    damped = (weighted * number(1 - influence, "influence")).named("damped")
    response = (damped + hann).named("response").reshape(batch, cells, name="response_flat")
    cell = response.argmax(axis=1, name="argmax")
    centre = graph.constant(f32(points(recipe) / recipe.search_size + 0.5), "points").take(cell, name="point")
    if batch > 1:
        first = graph.integers(np.arange(batch) * cells, "sample_offset")
        cell = (cell + first).named("argmax_row")
    maps = concat([sides, weighted, presence], axis=1, name="maps").transpose(0, 2, 1, name="by_cell")
    found = maps.reshape(batch * cells, 6, name="rows").take(cell, name="chosen")
    with graph.scope("chosen"):
        near, far, beta, presence_at = found.split(
            [2, 2, 1, 1], axis=1, names=("near", "far", "weighted", "score")
        )
    unit = number(1 / recipe.search_size, "unit")
    shift = ((far - near).named("twice_shift") * number(0.5 / recipe.search_size, "half_unit")).named("shift")
    beta = (beta * number(recipe.rate, "rate")).named("beta")
    growth = ((near + far).named("chosen/size") - previous_size).named("growth")
    mixed = (previous_size + (growth * beta).named("step")).named("mixed")
    box = concat([(centre + shift).named("centre"), (mixed * unit).named("box_size")], axis=1, name="box")
    return box, presence_at.reshape(batch, name="presence_at")


def _shape(size: Value, name: str) -> tuple[Value, Value]:
    """w/h and (w + p)(h + p), p = (w + h)/2, of B×2×n sizes: B×1×n each."""
    with size.graph.scope(name):
        w, h = size.split([1, 1], axis=1, names=("w", "h"))
        half = size.graph.constant(np.float32(0.5), "half")
        pad = ((w + h).named("around") * half).named("p")
        context = ((w + pad).named("w_p") * (h + pad).named("h_p")).named("context")
        return (w / h).named("ratio"), context


def _either(a: Value, b: Value, name: str) -> Value:
    """max(a/b, b/a)."""
    with a.graph.scope(name):
        return (a / b).named("over").maximum((b / a).named("under"), name="change")
