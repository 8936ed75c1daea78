"""Interior tensors of a finished graph as outputs, in memory: what is shipped has its own outputs alone."""

from __future__ import annotations

from collections.abc import Iterable

import onnx


def promote(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also returns these tensors (`blocks.N/ce/kept`, …); each once.

    The graph records their types, as ours do, or they are inferred. Raises KeyError for a name that no node
    makes.
    """
    present = {output.name for output in model.graph.output}
    wanted = [name for name in dict.fromkeys(names) if name not in present]
    known = {info.name: info for info in model.graph.value_info}
    if not known.keys() >= set(wanted):
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        known = {info.name: info for info in inferred.graph.value_info}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(known[name] for name in wanted)
    return copy
