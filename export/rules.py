"""The graph rules: what every template and track graph keeps, in any precision, and what a graph costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper

from jntrt.export.onnx.roles import Roles, read_roles
from jntrt.runtime.errors import UserError

OPSET = 20
MAX_FOLDED = 4096  # elements of a constant that shape inference may look into
FORBIDDEN = {"If", "Loop", "Scan", "NonZero", "Resize", "Shape"}
# What LayerNormalization, Gelu and Softmax turn into when an exporter writes them out. A graph that needs one
# of them for something else (boxes of an exponential head) says so in its metadata, `jntrt.allowed`.
WRITTEN_OUT = {"Erf", "Exp", "Tanh", "Pow"}


def check_graph(model: onnx.ModelProto) -> None:
    """Raises UserError, with all that is wrong in one line, when a graph breaks the graph rules."""
    wrong = graph_violations(model)
    if wrong:
        raise UserError(
            f"the {model.graph.name or 'unnamed'} graph breaks the graph rules: {'; '.join(wrong)}"
        )


def graph_violations(model: onnx.ModelProto) -> list[str]:
    """The graph rules that a template or track graph breaks, one line each; empty: none."""
    failed = []
    try:
        infos = _inferred(model)
    except onnx.shape_inference.InferenceError as error:
        infos, failed = {}, [f"shapes cannot be inferred ({str(error).splitlines()[0]})"]
    try:
        roles = read_roles(model) or Roles()
    except UserError as error:
        roles, failed = Roles(), [*failed, str(error)]
    graph = model.graph
    return [
        *failed,
        *_format(model, infos),
        *_names(graph),
        *_operators(graph, infos, set(roles.allowed)),
        *_interior(graph, roles),
    ]


def _inferred(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Type and shape of every value as inference finds them; what the file says of them is not believed."""
    # Large weights are passed as inputs: inference would copy them, and only small constants matter to it.
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(helper.make_empty_tensor_value_info(o.name) for o in model.graph.output)
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) <= MAX_FOLDED and tensor.data_location != onnx.TensorProto.EXTERNAL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    return {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}


def _format(model: onnx.ModelProto, infos: Mapping[str, onnx.ValueInfoProto]) -> Iterator[str]:
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        yield f"opsets are {opsets}, should be ai.onnx {OPSET} alone"
    if model.functions:
        yield "it has functions of its own"
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute)]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        yield "it has external data"
    values = [i.name for i in model.graph.input]
    values += [name for node in model.graph.node for name in node.output if name]
    dynamic = [name for name in values if name not in infos or _static_shape(infos[name]) is None]
    if dynamic:
        yield f"shapes are not static: {_some(dynamic)}"


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    names = [node.name for node in graph.node]
    unnamed = sum(not name or name.startswith("node_") for name in names)
    if unnamed:
        yield f"{unnamed} nodes are not named by their place"
    if len(set(names)) != len(names):
        yield f"nodes share names: {_some([name for name in set(names) if names.count(name) > 1])}"


def _operators(
    graph: onnx.GraphProto, infos: Mapping[str, onnx.ValueInfoProto], allowed: set[str]
) -> Iterator[str]:
    bytes_in = {i.name for i in graph.input if i.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    ranks = {name: len(_static_shape(info) or ()) for name, info in infos.items()}
    ranks |= {i.name: len(i.dims) for i in graph.initializer}
    readers: dict[str, list[str]] = {output.name: [""] for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"{node.name} is of domain {node.domain}"
        if node.op_type in FORBIDDEN:
            yield f"{node.name} is a {node.op_type}"
        if node.op_type in WRITTEN_OUT - allowed:
            yield f"{node.name} ({node.op_type}) is a written-out LayerNormalization, Gelu or Softmax"
        if node.op_type != "Cast" and bytes_in.intersection(node.input):
            yield f"{node.name} ({node.op_type}) reads uint8, only Cast may"
        if node.op_type == "Gather" and ranks.get(node.input[1]) != 1:
            yield f"{node.name} gathers with an index that is not 1-D"
        read = readers.get(node.output[0], [])
        if node.op_type == "Softmax" and "MatMul" in read and len(read) > 1:
            yield f"{node.name} has a second reader, which breaks its fusion"
        if node.op_type == "TopK" and not read and _attribute(node, "sorted", 1):
            yield f"{node.name} sorts for nothing"


def _interior(graph: onnx.GraphProto, roles: Roles) -> Iterator[str]:
    """What tests and gates promote has the names that the metadata says."""
    made = {name for node in graph.node for name in node.output}
    for name in (*roles.kept, *roles.interior):
        if name not in made:
            yield f"{name} is missing"


def count_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the graph's linear and convolution layers (the papers' scope): `layer_macs`."""
    return sum(layer_macs(model).values())


def layer_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of one call by node name, in the graph's order.

    Counted are products and convolutions with constant weights (also such as Q/DQ or a cast make of one), and
    convolutions with a kernel that is computed: the correlation of a Siamese tracker. A product of two
    activations is attention, which the papers leave out. Raises ValueError where a shape is not static.
    """
    graph = model.graph
    shapes = {name: _static_shape(info) for name, info in _inferred(model).items()}
    shapes |= {i.name: tuple(i.dims) for i in graph.initializer}
    constants = {i.name for i in graph.initializer}
    macs = {}
    for node in graph.node:
        if node.op_type in ("Cast", "QuantizeLinear", "DequantizeLinear") and node.input[0] in constants:
            constants.add(node.output[0])
        fixed = [name in constants for name in node.input[:2]]
        if node.op_type != "Conv" and not (node.op_type in ("MatMul", "Gemm") and any(fixed)):
            continue
        left, right, out = (shapes.get(name) for name in (*node.input[:2], node.output[0]))
        if left is None or right is None or out is None:
            raise ValueError(f"{node.name} has no static shape")
        if node.op_type == "Conv":
            depth = math.prod(right[1:])  # O×C/groups×k×k
        else:
            depth = left[0] if _attribute(node, "transA", 0) else left[-1]
        macs[node.name] = math.prod(out) * depth
    return macs


def _static_shape(info: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
