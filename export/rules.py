"""The graph rules: what every template and track graph keeps, in any precision, and what a graph costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from jntrt.runtime.errors import UserError
from onnx import helper

OPSET = 20
MAX_FOLDED = 4096  # elements of a constant that shape inference may look into
FORBIDDEN = {"If", "Loop", "Scan", "NonZero", "Resize", "Shape"}
# What LayerNormalization, Gelu and Softmax turn into when an exporter writes them out.
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
    graph = model.graph
    return [*failed, *_format(model, infos), *_names(graph), *_operators(graph, infos), *_interior(graph)]


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


def _operators(graph: onnx.GraphProto, infos: Mapping[str, onnx.ValueInfoProto]) -> Iterator[str]:
    bytes_in = {i.name for i in graph.input if i.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    ranks = {name: len(_static_shape(info) or ()) for name, info in infos.items()}
    ranks |= {i.name: len(i.dims) for i in graph.initializer}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"{node.name} is of domain {node.domain}"
        if node.op_type in FORBIDDEN:
            yield f"{node.name} is a {node.op_type}"
        if node.op_type in WRITTEN_OUT:
            yield f"{node.name} ({node.op_type}) is a written-out LayerNormalization, Gelu or Softmax"
        if node.op_type != "Cast" and bytes_in.intersection(node.input):
            yield f"{node.name} ({node.op_type}) reads uint8, only Cast may"
        if node.op_type == "Gather" and ranks.get(node.input[1]) != 1:
            yield f"{node.name} gathers with an index that is not 1-D"
        if node.op_type == "Softmax" and "/attn/" in node.name and readers.get(node.output[0], 0) > 1:
            yield f"{node.name} has a second reader, which breaks its fusion"
        if node.op_type == "TopK" and "/ce/" in node.name and _attribute(node, "sorted", 1):
            yield f"{node.name} sorts for nothing"


def _interior(graph: onnx.GraphProto) -> Iterator[str]:
    """What tests and gates promote: `head/score_map` in a track graph, `blocks.N/ce/kept` per TopK."""
    made = {name for node in graph.node for name in node.output}
    if "box" in made and "head/score_map" not in made:
        yield "head/score_map is missing"
    for node in graph.node:
        if node.op_type == "TopK" and "/ce/" in node.name:
            kept = node.name.partition("/ce/")[0] + "/ce/kept"
            if kept not in made:
                yield f"{kept} is missing"


def count_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the graph's linear and convolution layers (the papers' scope)."""
    graph = model.graph
    shapes = {name: _static_shape(info) for name, info in _inferred(model).items()}
    constants = {i.name: tuple(i.dims) for i in graph.initializer}
    for node in graph.node:  # weights of reduced precision
        if node.op_type in ("Cast", "DequantizeLinear") and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    total = 0
    for node in graph.node:
        weight = constants.get(node.input[1]) if len(node.input) > 1 else None
        if weight is None or node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        shape = shapes[node.output[0]]
        if shape is None:
            raise ValueError(f"{node.output[0]} has no static shape")
        if node.op_type == "Conv":
            depth = int(np.prod(weight[1:]))
        else:
            depth = weight[1] if _attribute(node, "transB", 0) else weight[-2]
        total += int(np.prod(shape)) * depth
    return total


def _static_shape(info: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
