"""The Linears of a track graph: where they are, what they cost, which of them int8 is for.

Quantised: query, key, value, projection, fc1, fc2, and the head's 3×3 convolutions (the first is a matrix
product over the kept tokens where candidates are eliminated). Left alone: the patch embedding (its input is
an image of 8 bits as it is), the ranking query of candidate elimination (a few rows that decide which tokens
live), the head's last 1×1 convolution (its outputs are the logits) and the decoding.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import onnx
from jntrt.calib.graph.view import GraphView, attributes

_QUANTISED = re.compile(r"blocks\.\d+/(?!ce/).*|head/(?:\w+/)?conv[1-4](?:/taps)?(?:/\w+)?")
# Tables of the decoding, which are no layers though they are matrix products with a constant.
_DECODING = re.compile(r"head/(expected|reach|corners|argmax\w*)|box|score")


@dataclass(frozen=True)
class Layer:
    """A Linear or convolution with constant weights.

    name: its place (`blocks.3/attn/qkv`); node: the name of the MatMul or Conv; activation, weight: the
    values it reads; axis: the weight's axis of output channels; macs: multiply-accumulates of one call;
    quantisable: whether int8 is for it.
    """

    name: str
    node: str
    kind: str
    activation: str
    weight: str
    axis: int
    macs: int
    quantisable: bool


def find_layers(view: GraphView) -> list[Layer]:
    """Every Linear and convolution of the graph, in its order."""
    found = []
    for node in view.nodes:
        if node.op_type not in ("MatMul", "Conv") or node.input[1] not in view.constants:
            continue
        if is_decoding(node):
            continue
        name = node.name.removesuffix("/matmul")
        found.append(
            Layer(
                name=name,
                node=node.name,
                kind=node.op_type,
                activation=node.input[0],
                weight=node.input[1],
                axis=0 if node.op_type == "Conv" else 1,
                macs=_macs(view, node),
                quantisable=_QUANTISED.fullmatch(name) is not None,
            )
        )
    return found


def is_decoding(node: onnx.NodeProto) -> bool:
    """Whether a matrix product belongs to the decoding of the box, which is float32 in every precision."""
    return _DECODING.fullmatch(node.name) is not None


def int8_share(layers: list[Layer], quantised: set[str]) -> float:
    """Share of the Linear and convolution MACs that the layers named in `quantised` make up."""
    total = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in layers if layer.name in quantised) / total if total else 0.0


def _macs(view: GraphView, node: onnx.NodeProto) -> int:
    outputs = math.prod(view.shapes[node.output[0]])
    weight = view.shapes[node.input[1]]
    if node.op_type == "MatMul":
        return outputs * weight[0]
    return outputs * math.prod(weight[1:]) // int(attributes(node).get("group", 1))
