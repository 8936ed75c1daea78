"""Which layers suffer most, and which to put back until a precision is the same tracker again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from jntrt.calib.crops import CropSet
from jntrt.calib.gate.judge import CropFigures, compare_crops
from jntrt.calib.graph.emulate import Emulator
from jntrt.calib.graph.engine import open_graph
from jntrt.calib.graph.view import Array, GraphView, place_of
from jntrt.calib.observe import feeds_of
from jntrt.calib.precisions.candidate import Models, make_candidate, quantisable
from jntrt.export.onnx.promote import promote


@dataclass(frozen=True)
class Sensitivity:
    """What one layer alone does: `error` ranks (0: nothing changed); `figures` where the tracker was run."""

    place: str
    error: float
    figures: CropFigures | None = None


def scan(
    models: Models,
    ranges: Mapping[str, float],
    reference: Sequence[Mapping[str, Array]],
    crops: CropSet,
    *,
    weight_bits: int = 8,
    threads: int | None = None,
    on_layer: Callable[[], None] | None = None,
) -> list[Sensitivity]:
    """Each quantisable layer alone in int8, all others in float32, against the fp32 outputs; worst first."""
    names = [layer.name for layer in quantisable(models) if layer.quantisable]
    found = []
    for name in names:
        others = [other for other in names if other != name]
        candidate = make_candidate("int8", models, {}, ranges, others, weight_bits)
        figures = compare_crops(reference, candidate.graphs(threads), crops)
        found.append(Sensitivity(name, figures.error, figures))
        if on_layer is not None:
            on_layer()
    return sorted(found, key=lambda item: -item.error)


def layer_errors(models: Models, half: onnx.ModelProto, crops: CropSet, limit: int = 8) -> list[Sensitivity]:
    """Relative error of every Linear's and norm's result in a float16 track graph; worst first.

    Over the first `limit` crops. A layer inherits the error of those before it: the first of a run of large
    ones is the place to look.
    """
    view = GraphView(models.track)
    wanted = [node for node in view.nodes if node.op_type in ("MatMul", "Conv", "LayerNormalization")]
    names = {node.output[0]: place_of(node).removesuffix("/matmul") for node in wanted}
    exact, emulator = open_graph(promote(models.track, names)), Emulator(half)
    halves = {value.name for value in half.graph.input if value.type.tensor_type.elem_type == _FLOAT16}
    errors: dict[str, list[float]] = {name: [] for name in names}
    few = CropSet(crops.templates, crops.samples[:limit])
    for feeds in feeds_of(few, open_graph(models.template).run):
        expected = exact.run(feeds)
        inputs = {n: value.astype(np.float16) if n in halves else value for n, value in feeds.items()}
        for name, value in emulator.run(inputs, list(names)).items():
            errors[name].append(_relative_error(expected[name], value.astype(np.float32)))
    ranked = [Sensitivity(names[name], float(np.mean(values))) for name, values in errors.items()]
    return sorted(ranked, key=lambda item: -item.error)


_FLOAT16 = onnx.TensorProto.FLOAT16


def _relative_error(expected: Array, value: Array) -> float:
    """Difference of two tensors' channel statistics: tokens may stand in another order after elimination."""

    def statistics(x: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        return np.concatenate((rows.mean(axis=0), rows.std(axis=0)))

    a, b = statistics(expected), statistics(value)
    error = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-12))
    return error if np.isfinite(error) else float("inf")
