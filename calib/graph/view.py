"""A finished ONNX graph as the calibration reads it: producers, readers, constants, static shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]

FLOAT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


@dataclass(frozen=True)
class GraphView:
    """Read-only look-ups on `model`; a changed model needs a new view."""

    model: onnx.ModelProto

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes, in an order in which each stands after all that it reads."""
        return list(self.model.graph.node)

    @property
    def inputs(self) -> list[str]:
        """Names of the graph's inputs."""
        return [value.name for value in self.model.graph.input]

    @property
    def outputs(self) -> list[str]:
        """Names of the graph's outputs."""
        return [value.name for value in self.model.graph.output]

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        """Value name → the node that makes it."""
        return {output: node for node in self.nodes for output in node.output if output}

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """Value name → the nodes that read it."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                if name:
                    found.setdefault(name, []).append(node)
        return found

    @cached_property
    def constants(self) -> dict[str, Array]:
        """Initializers and Constant nodes by value name."""
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                values[node.output[0]] = numpy_helper.to_array(attributes(node)["value"])
        return values

    @cached_property
    def types(self) -> dict[str, int]:
        """Value name → ONNX element type, of everything in the graph."""
        return {name: value.type.tensor_type.elem_type for name, value in self._values.items()} | {
            tensor.name: tensor.data_type for tensor in self.model.graph.initializer
        }

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Value name → static shape, of everything in the graph."""
        return {
            name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for name, value in self._values.items()
        } | {tensor.name: tuple(tensor.dims) for tensor in self.model.graph.initializer}

    @cached_property
    def _values(self) -> Mapping[str, onnx.ValueInfoProto]:
        graph = onnx.shape_inference.infer_shapes(self.model, strict_mode=True, data_prop=True).graph
        return {value.name: value for value in [*graph.value_info, *graph.input, *graph.output]}

    def is_float(self, name: str) -> bool:
        """Whether the value is a float tensor (float32, float16 or bfloat16)."""
        return self.types.get(name) in FLOAT_TYPES


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as Python values (strings decoded)."""
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}


def place_of(node: onnx.NodeProto) -> str:
    """The node's place in the network, as errors and tables name it: `blocks.3/attn/proj`."""
    return str(node.name or node.output[0])


def peak(array: Array) -> float:
    """Largest magnitude; 0 of an empty array, NaN or inf where the array holds one."""
    return float(np.abs(array).max()) if array.size else 0.0
