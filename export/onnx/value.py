"""A tensor of a graph that is being written: what is done to it becomes the graph's nodes.

    with graph.scope("attn"):
        scores = (q @ k.transpose(0, 1, 3, 2, name="keys")).named("scores")
        weights = scores.softmax(-1)                     # the node `attn/softmax`

A node is named by its scopes and its own name: the one given, or else its operator's (`softmax`); a name that
begins with / stands outside all scopes. The constants that an operator needs are named below it
(`attn/rows/shape`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from jntrt.export.onnx.writer import OnnxWriter


@dataclass(frozen=True)
class Value:
    """A tensor by its full name in `graph`. All methods write one node of the standard domain, opset 20."""

    graph: OnnxWriter
    place: str

    def named(self, name: str) -> Value:
        """The value of the operator written last, under another name: `(q @ keys).named("scores")`."""
        return self.graph.rename(self, name)

    def marked(self, role: str) -> Value:
        """Itself, with a role for the graph's metadata: "kept" or "interior" (export.onnx.roles)."""
        self.graph.mark(self, role)
        return self

    # ---- arithmetic

    def __add__(self, other: Value) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Value) -> Value:
        return self.graph.op("Sub", self, other)

    def __mul__(self, other: Value) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Value) -> Value:
        return self.graph.op("Div", self, other)

    def __matmul__(self, other: Value) -> Value:
        return self.graph.op("MatMul", self, other)

    def equals(self, other: Value, name: str | None = None) -> Value:
        """Bool, where both are the same."""
        return self.graph.op("Equal", self, other, name=name)

    def maximum(self, other: Value, name: str | None = None) -> Value:
        """The larger of both, element by element."""
        return self.graph.op("Max", self, other, name=name)

    def minimum(self, other: Value, name: str | None = None) -> Value:
        """The smaller of both, element by element."""
        return self.graph.op("Min", self, other, name=name)

    def clip(self, low: Value, high: Value, name: str | None = None) -> Value:
        """Between two scalars."""
        return self.graph.op("Clip", self, low, high, name=name)

    # ---- functions of one tensor

    def float(self, name: str | None = None) -> Value:
        """float32."""
        return self.graph.op("Cast", self, name=name, to=TensorProto.FLOAT)

    def relu(self, name: str | None = None) -> Value:
        return self.graph.op("Relu", self, name=name)

    def gelu(self, name: str | None = None) -> Value:
        """The exact one, with erf."""
        return self.graph.op("Gelu", self, name=name)

    def hard_swish(self, name: str | None = None) -> Value:
        """x · clip(x / 6 + 0.5, 0, 1)."""
        return self.graph.op("HardSwish", self, name=name)

    def hard_sigmoid(self, name: str | None = None) -> Value:
        """clip(x / 6 + 0.5, 0, 1), as PyTorch has it; ONNX's own slope is 0.2."""
        return self.graph.op("HardSigmoid", self, name=name, alpha=1 / 6, beta=0.5)

    def sigmoid(self, name: str | None = None) -> Value:
        return self.graph.op("Sigmoid", self, name=name)

    def exp(self, name: str | None = None) -> Value:
        """eˣ; the writer has to be told that this graph may hold an Exp."""
        return self.graph.op("Exp", self, name=name)

    def sqrt(self, name: str | None = None) -> Value:
        return self.graph.op("Sqrt", self, name=name)

    def softmax(self, axis: int, name: str | None = None) -> Value:
        return self.graph.op("Softmax", self, name=name, axis=axis)

    # ---- reductions; `keepdims` leaves axes of length 1 in their place

    def mean(self, axes: Integers, keepdims: bool = False, name: str = "mean") -> Value:
        return self._reduce("ReduceMean", axes, keepdims, name)

    def sum(self, axes: Integers, keepdims: bool = False, name: str = "sum") -> Value:
        return self._reduce("ReduceSum", axes, keepdims, name)

    def product(self, axes: Integers, keepdims: bool = False, name: str = "product") -> Value:
        return self._reduce("ReduceProd", axes, keepdims, name)

    def max(self, axes: Integers, keepdims: bool = False, name: str = "max") -> Value:
        return self._reduce("ReduceMax", axes, keepdims, name)

    def min(self, axes: Integers, keepdims: bool = False, name: str = "min") -> Value:
        return self._reduce("ReduceMin", axes, keepdims, name)

    def global_average_pool(self, name: str | None = None) -> Value:
        """B×C×H×W → B×C×1×1."""
        return self.graph.op("GlobalAveragePool", self, name=name)

    def argmax(self, axis: int, name: str | None = None) -> Value:
        """Index of the largest along an axis, the first of equals; the axis goes."""
        return self.graph.op("ArgMax", self, name=name, axis=axis, keepdims=0, select_last_index=0)

    def top_k(self, count: Integers, axis: int, ordered: bool, names: tuple[str, str]) -> tuple[Value, Value]:
        """The largest along an axis and their indices (int64), by size where `ordered`."""
        k = self._integers(count, f"{names[0]}/k")
        values, indices = self.graph.ops(
            "TopK", self, k, names=names, axis=axis, largest=1, sorted=int(ordered)
        )
        return values, indices

    # ---- shape

    def reshape(self, *shape: int, name: str = "reshape") -> Value:
        return self.graph.op("Reshape", self, self.graph.integers(shape, f"{name}/shape"), name=name)

    def transpose(self, *axes: int, name: str | None = None) -> Value:
        return self.graph.op("Transpose", self, name=name, perm=list(axes))

    def split(self, sizes: Integers, axis: int, names: Sequence[str]) -> list[Value]:
        """Parts of these sizes along an axis, one name for each."""
        lengths = self._integers(sizes, "split/sizes")
        return self.graph.ops("Split", self, lengths, names=names, axis=axis)

    def slice(self, start: int, end: int, axis: int, name: str = "slice") -> Value:
        """From start up to end along an axis."""
        bounds = [("from", start), ("to", end), ("axis", axis)]
        return self.graph.op(
            "Slice", self, *(self.graph.integers([n], f"{name}/{part}") for part, n in bounds), name=name
        )

    def crop(self, top: int, left: int, height: int, width: int, name: str = "crop") -> Value:
        """B×C×H×W → B×C×height×width."""
        bounds = [("from", [top, left]), ("to", [top + height, left + width]), ("axes", [2, 3])]
        return self.graph.op(
            "Slice", self, *(self.graph.integers(n, f"{name}/{part}") for part, n in bounds), name=name
        )

    def take(self, index: Value, axis: int = 0, name: str | None = None) -> Value:
        """What stands at a 1-D index along an axis: the only Gather that all engines fuse."""
        return self.graph.op("Gather", self, index, name=name, axis=axis)

    def _reduce(self, kind: str, axes: Integers, keepdims: bool, name: str) -> Value:
        dropped = {} if keepdims else {"keepdims": 0}
        return self.graph.op(kind, self, self._integers(axes, f"{name}/axes"), name=name, **dropped)

    def _integers(self, values: Integers, name: str) -> Value:
        if isinstance(values, Value):
            return values
        return self.graph.integers([values] if isinstance(values, int) else values, name)


Integers = int | Sequence[int] | Value
"""What an operator needs of axes, sizes or counts; a constant made before has a name of its own."""
