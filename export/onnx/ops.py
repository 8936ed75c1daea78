"""What the fast form is written over: ONNX operators by name, whoever carries them out.

`export.onnx_writer` writes them into a graph; the tests compute them with torch, so that the fast form can be
checked by itself and in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Value = Any  # a tensor's name in a graph, or the tensor itself


class Ops(Protocol):
    """Carries out operators of the standard ONNX domain, opset 20."""

    def constant(self, array: NDArray[Any] | np.floating[Any], place: str) -> Value:
        """A weight or table; a checkpoint's tensor keeps its own name instead of `place`."""
        ...

    def op(self, kind: str, *inputs: Value, place: str, **attributes: Any) -> Value:
        """One operator with one output, both named `place`."""
        ...

    def many(self, kind: str, *inputs: Value, places: Sequence[str], **attributes: Any) -> list[Value]:
        """One operator with an output per place."""
        ...


def integers(ops: Ops, values: Sequence[int] | NDArray[np.int64], place: str) -> Value:
    """An int64 constant: shapes, axes, indices."""
    return ops.constant(np.asarray(values, dtype=np.int64), place)


def reshape(ops: Ops, x: Value, shape: Sequence[int], place: str) -> Value:
    return ops.op("Reshape", x, integers(ops, shape, f"{place}/shape"), place=place)


def linear(ops: Ops, x: Value, matrix: NDArray[Any], bias: NDArray[Any] | None, place: str) -> Value:
    """x·matrix + bias, as MatMul and Add: quantisers look for this form."""
    weight = ops.constant(matrix, f"{place}/weight")
    if bias is None:
        return ops.op("MatMul", x, weight, place=place)
    product = ops.op("MatMul", x, weight, place=f"{place}/matmul")
    return ops.op("Add", product, ops.constant(bias, f"{place}/bias"), place=place)


def layer_norm(ops: Ops, x: Value, scale: NDArray[Any], shift: NDArray[Any], place: str) -> Value:
    """Over the last axis, ε 1e-6."""
    return ops.op(
        "LayerNormalization",
        x,
        ops.constant(scale, f"{place}/scale"),
        ops.constant(shift, f"{place}/shift"),
        place=place,
        axis=-1,
        epsilon=1e-6,
    )


def take_rows(ops: Ops, x: Value, index: Value, place: str) -> Value:
    """Rows of R×… at a 1-D index."""
    return ops.op("Gather", x, index, place=place, axis=0)
