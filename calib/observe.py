"""Runs graphs over calibration crops: the pass that observes activations, and plain runs for the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from jntrt.calib.crops import CropSet
from jntrt.calib.graph.engine import Run, open_graph
from jntrt.calib.graph.view import Array, GraphView
from jntrt.calib.precisions.ranges import Magnitudes, Observations
from jntrt.export.onnx.promote import promote
from jntrt.runtime.errors import UserError

PEAK_SUFFIX = "/peak"


def with_peaks(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an fp32 model that also returns `NAME/peak`, the largest magnitude, of every float value."""
    view = GraphView(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in view.nodes:
        for name in node.output:
            if not name or view.types.get(name) != TensorProto.FLOAT or not view.shapes[name]:
                continue
            magnitude, peak = f"{name}/magnitude", f"{name}{PEAK_SUFFIX}"
            copy.graph.node.append(helper.make_node("Abs", [name], [magnitude], name=magnitude))
            copy.graph.node.append(helper.make_node("ReduceMax", [magnitude], [peak], name=peak, keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(peak, TensorProto.FLOAT, []))
    return copy


def feeds_of(crops: CropSet, template: Run) -> Iterator[dict[str, Array]]:
    """Inputs of the track graph for every sample; the template graph runs once for each template."""
    memories: dict[int, dict[str, Array]] = {}
    for sample in crops.samples:
        if sample.template not in memories:
            target = crops.templates[sample.template]
            memory = template(_as_batch(target.template))
            # Samples of one template stand together.
            memories = {sample.template: {**memory, **_as_batch(target.track)}}
        yield {**_as_batch(sample.inputs), **memories[sample.template]}


def _as_batch(values: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value[None] for name, value in values.items()}


def observe(
    template: onnx.ModelProto,
    track: onnx.ModelProto,
    tensors: Iterable[str],
    crops: CropSet,
    *,
    threads: int | None = None,
    on_crop: Callable[[], None] | None = None,
) -> Observations:
    """Histograms of `tensors` and the peaks of every float value of both fp32 graphs, over the crops.

    Raises UserError when the network gives a value that is not finite.
    """
    seen = Observations({name: Magnitudes() for name in dict.fromkeys(tensors)})
    template_engine = open_graph(with_peaks(template), threads=threads)
    track_engine = open_graph(promote(with_peaks(track), seen.magnitudes), threads=threads)
    read = {value.name for value in track.graph.input}

    def remember(outputs: dict[str, Array]) -> dict[str, Array]:
        for name, value in outputs.items():
            if name.endswith(PEAK_SUFFIX):
                if not np.isfinite(value):
                    raise UserError(
                        f"{name.removesuffix(PEAK_SUFFIX)} is not finite in fp32: this checkpoint is broken"
                    )
                seen.add_peak(name.removesuffix(PEAK_SUFFIX), float(value))
        return {name: value for name, value in outputs.items() if name in read}

    for feeds in feeds_of(crops, lambda inputs: remember(template_engine.run(inputs))):
        outputs = track_engine.run(feeds)
        remember(outputs)
        for name, histogram in seen.magnitudes.items():
            histogram.add(outputs[name])
        if on_crop is not None:
            on_crop()
    return seen
