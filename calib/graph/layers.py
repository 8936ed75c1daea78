"""The Linears and convolutions of a track graph: where they are, what they cost, which int8 is for.

int8 is for those that the exporter's roles name; products that the roles keep in float32 (with the tables of
the decoding) are no layers though they are products with a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from jntrt.calib.graph.roles import roles_of
from jntrt.calib.graph.view import GraphView
from jntrt.export.rules import layer_macs


@dataclass(frozen=True)
class Layer:
    """A Linear or convolution with constant weights.

    name: its place (`blocks.3/attn/qkv`); node: the name of the MatMul or Conv; activation, weight: the
    values it reads; result: the value it makes; axis: the weight's axis of output channels; macs:
    multiply-accumulates of one call; quantisable: whether int8 is for it.
    """

    name: str
    node: str
    kind: str
    activation: str
    weight: str
    result: str
    axis: int
    macs: int
    quantisable: bool


def find_layers(view: GraphView) -> list[Layer]:
    """Every Linear and convolution of the graph, in its order. Raises UserError for one without roles."""
    roles = roles_of(view.model)
    int8, float32 = frozenset(roles.int8), frozenset(roles.float32)
    macs = layer_macs(view.model)
    return [
        Layer(
            name=node.name.removesuffix("/matmul"),
            node=node.name,
            kind=node.op_type,
            activation=node.input[0],
            weight=node.input[1],
            result=node.output[0],
            axis=0 if node.op_type == "Conv" else 1,
            macs=macs[node.name],
            quantisable=node.name in int8,
        )
        for node in view.nodes
        if node.op_type in ("MatMul", "Conv") and node.input[1] in view.constants and node.name not in float32
    ]


def int8_share(layers: list[Layer], quantised: set[str]) -> float:
    """Share of the Linear and convolution MACs that the layers named in `quantised` make up."""
    total = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in layers if layer.name in quantised) / total if total else 0.0
