"""Runs a graph with every float32 in it made float64: what is left of a difference is the graph's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from jntrt.calib.graph.emulate import Emulator


def run_in_float64(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Values of `outputs` (default: the graph's), interior ones too, in float64; others stay as they are."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    taken = {i.name: inputs[i.name] for i in wide.graph.input}
    feeds = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in taken.items()}
    return Emulator(wide).run(feeds, outputs)
