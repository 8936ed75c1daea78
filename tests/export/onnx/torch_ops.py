"""Carries out the fast form's operators with torch: the fast form without ONNX, in any float type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class TorchOps:
    """An `Ops` (export.networks.ops) whose values are tensors, all of them in `made` by place."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.made: dict[str, Tensor] = {}

    def constant(self, array: Any, place: str) -> Tensor:
        tensor = torch.tensor(array)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def op(self, kind: str, *inputs: Tensor, place: str, **attributes: Any) -> Tensor:
        return self.many(kind, *inputs, places=[place], **attributes)[0]

    def many(self, kind: str, *inputs: Tensor, places: Sequence[str], **attributes: Any) -> list[Tensor]:
        if kind == "Cast":
            made: Any = inputs[0].to(self.dtype)
        else:
            made = OPERATORS[kind](*inputs, **attributes)
        values = list(made) if isinstance(made, tuple) else [made]
        assert len(values) == len(places)
        self.made.update(zip(places, values, strict=True))
        return values


def _slice(x: Tensor, start: Tensor, end: Tensor, axis: Tensor) -> Tensor:
    return x.narrow(int(axis), int(start), int(end - start))


def _top(x: Tensor, k: Tensor, axis: int, largest: int, sorted: int) -> tuple[Tensor, Tensor]:
    return tuple(x.topk(int(k), dim=axis, largest=bool(largest), sorted=bool(sorted)))


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "ArgMax": lambda x, axis, keepdims, select_last_index: x.argmax(dim=axis),
    "Clip": torch.clamp,
    "Concat": lambda *xs, axis: torch.cat(xs, dim=axis),
    "Conv": lambda x, w, b, kernel_shape, pads: F.conv2d(x, w, b, padding=pads[0]),
    "Div": torch.div,
    "Equal": torch.eq,
    "Gather": lambda x, index, axis: x.index_select(axis, index),  # refuses an index that is not 1-D
    "Gelu": F.gelu,
    "LayerNormalization": lambda x, w, b, axis, epsilon: F.layer_norm(x, x.shape[-1:], w, b, epsilon),
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "ReduceMax": lambda x, axes, keepdims: x.amax(dim=axes.tolist()),
    "ReduceMean": lambda x, axes, keepdims=1: x.mean(dim=axes.tolist(), keepdim=bool(keepdims)),
    "ReduceMin": lambda x, axes, keepdims: x.amin(dim=axes.tolist()),
    "ReduceProd": lambda x, axes, keepdims: x.prod(dim=int(axes)),
    "ReduceSum": lambda x, axes, keepdims: x.sum(dim=axes.tolist()),
    "Relu": torch.relu,
    "Reshape": lambda x, shape: x.reshape(shape.tolist()),
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": lambda x, axis: x.softmax(dim=axis),
    "Split": lambda x, sizes, axis: x.split(sizes.tolist(), dim=axis),
    "Sqrt": torch.sqrt,
    "TopK": _top,
    "Transpose": lambda x, perm: x.permute(perm),
    "Where": torch.where,
}
