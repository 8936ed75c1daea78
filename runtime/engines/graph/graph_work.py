"""Bounds on what a graph computes, by the shapes that it records for its tensors.

A small file can ask for any amount: a product of a column with a row, an Expand. So each tensor's shape has
to be recorded and bounded, and what fixes a shape has to lie in the file; that the records are true is for
the engine to say, which infers shapes itself before it computes anything.
"""

import math
from collections.abc import Mapping, Set

from jntrt.runtime.engines.graph.onnx_bytes import Node

Shape = tuple[int, ...]

MAX_ELEMENTS = 1 << 27  # of one tensor; a ViT-L's attention over 384 pixels, 8 targets: half of that
MAX_WORK = 1 << 42  # multiply-accumulates of a call, about: OSTrack-384 has 48 G, 1 % of it

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")
_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
# Whose work can be more than their inputs and outputs together.
_SLOW = (
    *("AveragePool", "MaxPool", "LpPool", "LRN", "ConvTranspose", "DeformConv", "Col2Im", "RoiAlign"),
    *("MaxRoiPool", "GridSample", "Einsum", "LSTM", "GRU", "RNN", "DFT", "STFT", "Det", "Attention"),
)
# The output has the first input's shape, which calibration leaves unrecorded with the levels' type.
_KEEPING = ("QuantizeLinear", "DequantizeLinear")
# Inputs that fix the output's shape: these, and those behind them.
_SHAPED = {"ConstantOfShape": 0, "Range": 0} | dict.fromkeys(
    (
        *("Reshape", "Expand", "Tile", "Pad", "OneHot", "Slice", "Split", "TopK", "Squeeze", "Unsqueeze"),
        *("Upsample", "CenterCropPad", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
    ),
    1,
)


def excess(nodes: list[Node], shapes: Mapping[str, Shape], constants: Set[str]) -> str:
    """What the nodes ask for beyond the bounds, or that cannot be known; empty where there is nothing.

    shapes: of tensors, by name. constants: the tensors whose numbers are in the file.
    """
    constants = {*constants, *(name for n in nodes if n.op_type == "Constant" for name in n.outputs)}
    shapes = dict(shapes)
    total = 0
    for node in nodes:
        first = _SHAPED.get(node.op_type)
        if first is not None and not constants.issuperset(filter(None, node.inputs[first:])):
            return f"the shape of {node.name!r:.80} depends on what it computes"
        if node.op_type in _KEEPING and node.inputs and node.inputs[0] in shapes:
            shapes.setdefault(node.outputs[0], shapes[node.inputs[0]])
        for name in filter(None, node.outputs):
            if node.op_type != "Constant" and name not in shapes:
                return f"it does not record the shape of {name!r:.80}"
            if math.prod(shapes.get(name, ())) > MAX_ELEMENTS:
                return f"tensor {name!r:.80} is too large"
        total += _work(node, shapes)
        if total > MAX_WORK:
            return "it computes too much"
    return ""


def _work(node: Node, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates of a node, or numbers that it touches; rather too many than too few."""
    taken = [shapes.get(name, ()) for name in node.inputs]
    made = sum(math.prod(shapes.get(name, ())) for name in node.outputs if name)
    sizes = [math.prod(shape) for shape in taken]
    if node.op_type in _PRODUCTS and taken:
        return made * max(taken[0][-2:], default=1)  # Gemm may take it transposed
    if node.op_type in _CONVOLUTIONS and sizes:
        return made * max((math.prod(shape[1:]) for shape in taken[1:] if len(shape) > 2), default=max(sizes))
    if node.op_type in _SLOW:
        return made * max(sizes, default=1)
    return made + sum(sizes)
