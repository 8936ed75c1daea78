"""Layers and operators of several tensors, over `Value`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from jntrt.export.onnx.value import Value


def linear(x: Value, matrix: NDArray[Any], bias: NDArray[Any] | None, name: str) -> Value:
    """x·matrix + bias, as MatMul and Add: quantisers look for this form."""
    weight = x.graph.constant(matrix, f"{name}/weight")
    if bias is None:
        return (x @ weight).named(name)
    product = (x @ weight).named(f"{name}/matmul")
    return (product + x.graph.constant(bias, f"{name}/bias")).named(name)


def layer_norm(x: Value, scale: NDArray[Any], shift: NDArray[Any], name: str) -> Value:
    """Over the last axis, ε 1e-6."""
    scale_shift = (x.graph.constant(scale, f"{name}/scale"), x.graph.constant(shift, f"{name}/shift"))
    return x.graph.op("LayerNormalization", x, *scale_shift, name=name, axis=-1, epsilon=1e-6)


def convolution(
    x: Value,
    kernel: NDArray[Any],
    bias: NDArray[Any] | None,
    name: str,
    *,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> Value:
    """B×C×H×W with an O×C/groups×k×k kernel; padding on all sides, by default so that stride 1 keeps H×W."""
    side = kernel.shape[-1]
    constants = [x.graph.constant(kernel, f"{name}/weight")]
    if bias is not None:
        constants.append(x.graph.constant(bias, f"{name}/bias"))
    pads = dilation * (side - 1) // 2 if padding is None else padding
    return x.graph.op(
        "Conv",
        x,
        *constants,
        name=name,
        kernel_shape=[side, side],
        pads=[pads] * 4,
        **_unless_one(strides=stride, dilations=dilation),
        **({"group": groups} if groups > 1 else {}),
    )


def correlation(x: Value, kernel: Value, name: str, *, groups: int = 1, padding: int = 0) -> Value:
    """A convolution whose kernel O×C/groups×k×k is a tensor too, no constant."""
    attributes = {"group": groups} if groups > 1 else {}
    return x.graph.op("Conv", x, kernel, name=name, pads=[padding] * 4, **attributes)


def concat(values: Sequence[Value], axis: int, name: str | None = None) -> Value:
    return values[0].graph.op("Concat", *values, name=name, axis=axis)


def where(condition: Value, yes: Value, no: Value, name: str | None = None) -> Value:
    return condition.graph.op("Where", condition, yes, no, name=name)


def _unless_one(**attributes: int) -> dict[str, list[int]]:
    """Attributes of both axes, left out where they are ONNX's default of 1."""
    return {key: [value, value] for key, value in attributes.items() if value != 1}
