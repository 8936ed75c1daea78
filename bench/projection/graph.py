"""The kernels that a bundle's track graph comes to, by its own products."""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from jntrt.bench.layers.work import Shape, convolution_depth, product_depth
from jntrt.bench.projection.kernels import Kernel
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.graph.graph_check import recorded_shapes
from jntrt.runtime.engines.graph.onnx_bytes import Node, read_nodes

# A launch each. What is in neither list is fused into a neighbour: element by element, reshape, transpose.
_PRODUCTS = ("MatMul", "Gemm")
_MOVING = (
    *("LayerNormalization", "TopK", "ArgMax", "Gather", "GatherElements", "GatherND", "ScatterElements"),
    *("ScatterND", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMax"),
)
_THROUGH = ("Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze")


def graph_kernels(bundle: Bundle, precision: str) -> list[Kernel]:
    """The track graph's kernels in their order, in fp16, and int8 where the graph of `precision` quantises.

    Raises UserError where the bundle lacks the precision.
    """
    inputs = {name for graph, name in bundle.tensors("inputs") if graph == "track"}
    return read_kernels(bundle.graph("track", precision), inputs)


def read_kernels(file: Path, inputs: Set[str]) -> list[Kernel]:
    """Those of an ONNX file with these inputs, which records the shape of each tensor."""
    graph = _Graph(read_nodes(file.read_bytes()), recorded_shapes(file), inputs)
    kernels: list[Kernel] = []
    scores: dict[
        tuple[int, int, int], int
    ] = {}  # first products of attentions: where they stand, by their sizes
    for node in graph.nodes:
        kernel = graph.kernel(node)
        if kernel is None:
            continue
        if kernel.kind == "product" and not kernel.weights:
            first = scores.pop((kernel.rows, kernel.depth, kernel.copies), None)
            if first is not None:
                found = kernels[first]
                sizes = (found.rows, found.columns, found.depth, found.copies)
                kernels[first] = Kernel("attention", *sizes, name=found.name)
                continue
            scores[kernel.rows, kernel.columns, kernel.copies] = len(kernels)
        kernels.append(kernel)
    return kernels


@dataclass
class _Graph:
    nodes: list[Node]
    shapes: Mapping[str, Shape]
    inputs: Set[str]

    def __post_init__(self) -> None:
        self._maker = {name: node for node in self.nodes for name in node.outputs}
        made = self._maker.keys()
        self._constant = {name: name not in self.inputs for name in self.shapes.keys() - made}

    def kernel(self, node: Node) -> Kernel | None:
        """What a node launches, if anything by itself."""
        if node.op_type in _PRODUCTS:
            return self._product(node)
        if node.op_type == "Conv":
            return self._convolution(node)
        if node.op_type in _MOVING and not self._from_constants(node.outputs[0]):
            numbers = sum(math.prod(self._shape(name)) for name in (*node.inputs[:1], *node.outputs[:1]))
            if node.op_type == "LayerNormalization":  # with the residual that it is fused with
                numbers += math.prod(self._shape(node.inputs[0]))
            return Kernel("moves", numbers, name=node.name)
        return None

    def _product(self, node: Node) -> Kernel | None:
        first, second = node.inputs[:2]
        if self._from_constants(node.outputs[0]):
            return None
        out = self._shape(node.outputs[0])
        depth = product_depth(self._shape(first), out)
        int8 = self._quantised(first) and self._quantised(second)
        if self._from_constants(second):
            return Kernel("product", math.prod(out[:-1]), out[-1], depth, int8=int8, name=node.name)
        copies = math.prod(out[:-2])
        return Kernel("product", out[-2], out[-1], depth, copies, weights=False, int8=int8, name=node.name)

    def _convolution(self, node: Node) -> Kernel:
        taken, weights = (self._shape(name) for name in node.inputs[:2])
        out = self._shape(node.outputs[0])
        groups = taken[1] // weights[1]
        if weights[1] == 1 and groups > 1:  # depthwise: no product for a tensor core
            return Kernel("moves", math.prod(taken) + math.prod(out), name=node.name)
        cells = out[0] * math.prod(out[2:])
        int8 = all(self._quantised(name) for name in node.inputs[:2])
        known = self._from_constants(node.inputs[1])
        sizes = (cells, out[1] // groups, convolution_depth(weights), groups)
        return Kernel("product", *sizes, weights=known, int8=int8, name=node.name)

    def _shape(self, name: str) -> Shape:
        while name not in self.shapes:  # calibration leaves quantised values unrecorded
            name = self._maker[name].inputs[0]
        return self.shapes[name]

    def _quantised(self, name: str) -> bool:
        maker = self._maker.get(name)
        while maker is not None and maker.op_type in _THROUGH:
            maker = self._maker.get(maker.inputs[0])
        return maker is not None and maker.op_type == "DequantizeLinear"

    def _from_constants(self, name: str) -> bool:
        if name not in self._constant:
            maker = self._maker.get(name)
            self._constant[name] = maker is not None and all(
                self._from_constants(taken) for taken in maker.inputs if taken
            )
        return self._constant[name]
