"""One layer of an engine, and the work that its shapes ask for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jntrt.runtime.engines.graph.graph_check import recorded_shapes
from jntrt.runtime.engines.graph.onnx_bytes import read_nodes

Shape = tuple[int, ...]

PRODUCTS = {
    *("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "QLinearMatMul", "QGemm"),
    *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "FullyConnected"),
}
CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger", "Convolution"}


@dataclass(frozen=True)
class Layer:
    """One kernel of an engine. block: the part of the network that it goes with; precision: what it computes
    in; macs: what it computes, padded channels included; moved: bytes read and written. attention: whether it
    multiplies two activations, which papers do not count."""

    name: str
    block: str
    kind: str
    precision: str
    ms: float
    macs: int
    moved: int
    attention: bool = False


def product_depth(left: Shape, out: Shape) -> int:
    """Multiply-accumulates of each number of a product's result; its first operand transposed or not."""
    rows = out[-2] if len(out) > 1 else 1
    return math.prod(left[-2:]) // rows if len(left) > 1 else left[0]


def convolution_depth(weights: Shape) -> int:
    """The same of a convolution; weights O×C/groups×k×k, or groups×O/groups×C/groups×k×k."""
    return math.prod(weights[-3:])


def product_macs(left: Shape, out: Shape) -> int:
    """Multiply-accumulates of a product with this first operand and this result."""
    return math.prod(out) * product_depth(left, out)


def convolution_macs(weights: Shape, out: Shape) -> int:
    """Multiply-accumulates of a convolution with these weights and this result."""
    return math.prod(out) * convolution_depth(weights)


def graph_macs(graph: Path) -> dict[str, int]:
    """Multiply-accumulates of an ONNX file's products and convolutions by node name."""
    shapes = recorded_shapes(graph)
    macs = {}
    for node in read_nodes(graph.read_bytes()):
        if node.op_type not in ("MatMul", "Conv"):
            continue
        left, right, out = (shapes.get(name, ()) for name in (*node.inputs[:2], node.outputs[0]))
        if node.op_type == "MatMul" and left and out:
            macs[node.name] = product_macs(left, out)
        elif node.op_type == "Conv" and len(right) > 2 and out:
            macs[node.name] = convolution_macs(right, out)
    return macs


def attention_products(graph: Path) -> set[str]:
    """Names of an ONNX file's products of two activations: their second operand has more than two axes."""
    shapes = recorded_shapes(graph)
    nodes = [node for node in read_nodes(graph.read_bytes()) if node.op_type == "MatMul"]
    return {node.name for node in nodes if len(shapes.get(node.inputs[1], ())) > 2}


def block_names(names: Sequence[str]) -> list[str]:
    """The block of each of an engine's layers, in their order: what stands before the first slash, of a
    backbone also what stands before the second. A layer that the engine made itself goes with the next one
    that has a name of the graph's."""
    blocks = [_block(name) for name in names]
    following = "others"
    for k in reversed(range(len(blocks))):
        following = blocks[k] or following
        blocks[k] = following
    return blocks


def _block(name: str) -> str:
    parts = name.split("/")
    return "" if len(parts) < 2 else "/".join(parts[: 2 if parts[0] == "backbone" else 1])
