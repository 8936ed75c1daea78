"""The operators that our graphs hold, computed with torch: inputs and attributes of a node → its outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional

Operator = Callable[[list[Any], dict[str, Any]], Any]

_TORCH_TYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.BOOL: torch.bool,
}


def _cast(a: list[Any], k: dict[str, Any]) -> Tensor:
    result: Tensor = a[0].to(_TORCH_TYPES[k["to"]])
    return result


def _axes(a: list[Any], k: dict[str, Any]) -> list[int]:
    if len(a) > 1 and a[1] is not None:
        return [int(v) for v in a[1].reshape(-1)]
    return [int(v) for v in k.get("axes", [])]


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def operator(a: list[Any], k: dict[str, Any]) -> Tensor:
        axes = _axes(a, k) or list(range(a[0].dim()))
        return function(a[0], dim=axes, keepdim=bool(k.get("keepdims", 1)))

    return operator


def _reduce_prod(a: list[Any], k: dict[str, Any]) -> Tensor:
    result: Tensor = a[0]
    for axis in sorted((axis % a[0].dim() for axis in _axes(a, k)), reverse=True):
        result = result.prod(dim=axis, keepdim=bool(k.get("keepdims", 1)))
    return result


def _layer_norm(a: list[Any], k: dict[str, Any]) -> Tensor:
    axis = k.get("axis", -1) % a[0].dim()
    bias = a[2] if len(a) > 2 else None
    return functional.layer_norm(a[0], a[0].shape[axis:], a[1], bias, k.get("epsilon", 1e-5))


def _max_pool(a: list[Any], k: dict[str, Any]) -> Tensor:
    pads = k.get("pads", [0, 0, 0, 0])
    padded = functional.pad(a[0], (pads[1], pads[3], pads[0], pads[2]), value=float("-inf"))
    return functional.max_pool2d(padded, k["kernel_shape"], k.get("strides", 1))


def _conv(a: list[Any], k: dict[str, Any]) -> Tensor:
    pads = k.get("pads", [0, 0, 0, 0])
    padded = functional.pad(a[0], (pads[1], pads[3], pads[0], pads[2]))
    bias = a[2] if len(a) > 2 else None
    return functional.conv2d(
        padded, a[1], bias, k.get("strides", 1), 0, k.get("dilations", 1), k.get("group", 1)
    )


def _slice(a: list[Any], k: dict[str, Any]) -> Tensor:
    starts, ends = a[1].tolist(), a[2].tolist()
    axes = a[3].tolist() if len(a) > 3 and a[3] is not None else list(range(len(starts)))
    steps = a[4].tolist() if len(a) > 4 and a[4] is not None else [1] * len(starts)
    index = [slice(None)] * a[0].dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, end, step)
    result: Tensor = a[0][tuple(index)]
    return result


def _split(a: list[Any], k: dict[str, Any]) -> tuple[Tensor, ...]:
    axis = k.get("axis", 0)
    if len(a) > 1 and a[1] is not None:
        return tuple(a[0].split(a[1].tolist(), dim=axis))
    return tuple(a[0].chunk(k["num_outputs"], dim=axis))


def _gather(a: list[Any], k: dict[str, Any]) -> Tensor:
    axis = k.get("axis", 0) % a[0].dim()
    index = a[1].long()
    index = torch.where(index < 0, index + a[0].shape[axis], index)
    shape = (*a[0].shape[:axis], *index.shape, *a[0].shape[axis + 1 :])
    result: Tensor = a[0].index_select(axis, index.reshape(-1)).reshape(shape)
    return result


def _reshape(a: list[Any], k: dict[str, Any]) -> Tensor:
    shape = a[1].tolist()
    shape = [a[0].shape[i] if n == 0 and not k.get("allowzero") else n for i, n in enumerate(shape)]
    result: Tensor = a[0].reshape(shape)
    return result


def _squeeze(a: list[Any], k: dict[str, Any]) -> Tensor:
    axes = _axes(a, k)
    result: Tensor = a[0].squeeze(dim=tuple(axes)) if axes else a[0].squeeze()
    return result


def _unsqueeze(a: list[Any], k: dict[str, Any]) -> Tensor:
    axes = _axes(a, k)
    rank = a[0].dim() + len(axes)
    result: Tensor = a[0]
    for axis in sorted(axis % rank for axis in axes):
        result = result.unsqueeze(axis)
    return result


def _top_k(a: list[Any], k: dict[str, Any]) -> tuple[Tensor, Tensor]:
    # Stable, so that ties go to the lower index as ONNX demands.
    axis = k.get("axis", -1)
    values, order = torch.sort(a[0], dim=axis, descending=bool(k.get("largest", 1)), stable=True)
    count = int(a[1].reshape(-1)[0])
    return values.narrow(axis, 0, count), order.narrow(axis, 0, count)


def _arg_max(a: list[Any], k: dict[str, Any]) -> Tensor:
    return torch.argmax(a[0], dim=k.get("axis", 0), keepdim=bool(k.get("keepdims", 1)))


def _div(a: list[Any], k: dict[str, Any]) -> Tensor:
    if a[0].is_floating_point():
        return torch.div(a[0], a[1])
    return torch.div(a[0], a[1], rounding_mode="trunc")


def _clip(a: list[Any], k: dict[str, Any]) -> Tensor:
    low = a[1] if len(a) > 1 else None
    high = a[2] if len(a) > 2 else None
    return torch.clamp(a[0], low, high)


def _hard_sigmoid(a: list[Any], k: dict[str, Any]) -> Tensor:
    return torch.clamp(k.get("alpha", 0.2) * a[0] + k.get("beta", 0.5), 0, 1)


def _all(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator that takes any number of tensors."""
    return lambda a, k: reduce(function, a)


def _along(vector: Tensor, rank: int, axis: int) -> Tensor:
    if vector.dim() == 0 or vector.numel() == 1:
        return vector.reshape(())
    shape = [1] * rank
    shape[axis % rank] = -1
    return vector.reshape(shape)


def _quantize(a: list[Any], k: dict[str, Any]) -> Tensor:
    axis = k.get("axis", 1)
    zero = a[2] if len(a) > 2 else torch.zeros((), dtype=torch.uint8)
    limits = torch.iinfo(zero.dtype)
    scaled = torch.round(a[0] / _along(a[1], a[0].dim(), axis)) + _along(zero, a[0].dim(), axis).float()
    return scaled.clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize(a: list[Any], k: dict[str, Any]) -> Tensor:
    axis, rank = k.get("axis", 1), a[0].dim()
    centred = a[0].float()
    if len(a) > 2:
        centred = centred - _along(a[2], rank, axis).float()
    result: Tensor = centred * _along(a[1], rank, axis)
    return result


def _gelu(a: list[Any], k: dict[str, Any]) -> Tensor:
    return functional.gelu(a[0], approximate=k.get("approximate", "none"))


def _concat(a: list[Any], k: dict[str, Any]) -> Tensor:
    return torch.cat(a, dim=k["axis"])


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda a, k: function(a[0])


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda a, k: function(a[0], a[1])


OPERATORS: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Div": _div,
    "Equal": _binary(torch.eq),
    "Exp": _unary(torch.exp),
    "Gather": _gather,
    "Gelu": _gelu,
    "GlobalAveragePool": lambda a, k: a[0].mean(dim=(2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "LayerNormalization": _layer_norm,
    "MatMul": _binary(torch.matmul),
    "Max": _all(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _all(torch.minimum),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "QuantizeLinear": _quantize,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce_prod,
    "ReduceSum": _reduce(torch.sum),
    "Relu": _unary(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda a, k: torch.softmax(a[0], dim=k.get("axis", -1)),
    "Split": _split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "TopK": _top_k,
    "Transpose": lambda a, k: a[0].permute(k["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": lambda a, k: torch.where(a[0], a[1], a[2]),
}
