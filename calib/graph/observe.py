"""Runs graphs over calibration crops: the pass that observes activations, and plain runs for the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import onnx
from jntrt.calib.gate.crops import CropSet
from jntrt.calib.graph.view import Array, GraphView
from jntrt.calib.precisions.ranges import Magnitudes, Observations
from jntrt.runtime.errors import UserError
from onnx import TensorProto, helper

Run = Callable[[Mapping[str, Array]], dict[str, Array]]

PEAK_SUFFIX = "/peak"


def session(model: onnx.ModelProto, threads: int | None = None) -> Run:
    """`model` in ONNX Runtime, all outputs by name; for fp32 graphs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    opened = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in opened.get_outputs()]
    return lambda feeds: dict(zip(names, opened.run(None, dict(feeds)), strict=True))


def promote(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also returns these interior tensors."""
    view = GraphView(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = set(view.outputs)
    for name in dict.fromkeys(names):
        if name not in present:
            copy.graph.output.append(helper.make_tensor_value_info(name, view.types[name], view.shapes[name]))
    return copy


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


def feeds_of(crops: CropSet, template: Run, takes: set[str]) -> Iterator[dict[str, Array]]:
    """Inputs of the track graph for every sample; the template graph runs once for each template.

    takes: names of the inputs of both graphs.
    """
    memories: dict[int, dict[str, Array]] = {}
    for sample in crops.samples:
        if sample.template not in memories:
            feed = crops.templates[sample.template]
            inputs: dict[str, Array] = {"template": feed.template[None]}
            if "target_box" in takes:
                inputs["target_box"] = feed.target_box[None]
            memory = template(inputs)
            if "template_weights" in takes:
                memory["template_weights"] = feed.weights[None]
            memories = {sample.template: memory}  # samples of one template stand together
        yield {"search": sample.search[None], **memories[sample.template]}


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
    template_run = session(with_peaks(template), threads)
    track_run = session(promote(with_peaks(track), seen.magnitudes), threads)
    takes = {value.name for value in (*template.graph.input, *track.graph.input)}
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

    for feeds in feeds_of(crops, lambda inputs: remember(template_run(inputs)), takes):
        outputs = track_run(feeds)
        remember(outputs)
        for name, histogram in seen.magnitudes.items():
            histogram.add(outputs[name])
        if on_crop is not None:
            on_crop()
    return seen
