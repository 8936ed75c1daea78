"""Writes operators into an ONNX graph: the one way a graph of this package comes to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9  # the one that came with opset 20; older engines refuse newer ones


class OnnxWriter:
    """An `Ops` (export.networks.ops) whose values are tensor names in one graph.

    An initializer that is one of `weights`, the same array, keeps that name.
    """

    def __init__(self, name: str, weights: Mapping[str, NDArray[Any]]) -> None:
        self.name = name
        self._names = {id(array): key for key, array in weights.items()}
        self._constants: dict[str, NDArray[Any]] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: int, shape: Sequence[int]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, value: str, name: str, dtype: int, shape: Sequence[int]) -> None:
        """Makes `value` a graph output of that name."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if n == value else n for n in names]
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def constant(self, array: NDArray[Any] | np.floating[Any], place: str) -> str:
        name = self._names.get(id(array), place)
        known = self._constants.setdefault(name, np.asarray(array))
        if known is not array and not np.array_equal(known, array):
            raise ValueError(f"two different constants are named {name}")
        return name

    def op(self, kind: str, *inputs: str, place: str, **attributes: Any) -> str:
        return self.many(kind, *inputs, places=[place], **attributes)[0]

    def many(self, kind: str, *inputs: str, places: Sequence[str], **attributes: Any) -> list[str]:
        name = places[0] if len(places) == 1 else places[0].rpartition("/")[0] + f"/{kind.lower()}"
        self._nodes.append(helper.make_node(kind, list(inputs), list(places), name=name, **attributes))
        return list(places)

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The checked model with every tensor's shape recorded."""
        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            # Not ascontiguousarray: it would make a scalar, which Clip's bounds have to be, a list of one.
            [numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self._constants.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "jntrt"
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=False)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT
