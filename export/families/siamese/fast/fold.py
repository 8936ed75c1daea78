"""What the fast form folds into the weights before a graph is written. Every fold is exact up to rounding.

Computed in float64; `f32` makes what a graph holds of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]
EPSILON = 1e-5  # of every batch norm


def conv_norm(weights: Weights, conv: str, norm: str) -> tuple[Array, Array]:
    """Kernel and bias of convolution `conv`, with its bias where it has one, and batch norm `norm`."""
    kernel, bias = plain_conv(weights, conv)
    variance = weights[f"{norm}.running_var"].astype(np.float64)
    scale = weights[f"{norm}.weight"] / np.sqrt(variance + EPSILON)
    shift = (bias - weights[f"{norm}.running_mean"]) * scale + weights[f"{norm}.bias"]
    return kernel * scale[:, None, None, None], shift


def plain_conv(weights: Weights, conv: str) -> tuple[Array, Array]:
    """Kernel and bias of a convolution; zeros where it has no bias."""
    kernel = weights[f"{conv}.weight"].astype(np.float64)
    bias = weights.get(f"{conv}.bias")
    return kernel, np.zeros(len(kernel)) if bias is None else bias.astype(np.float64)


def chain(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """Two 1×1 convolutions with nothing between them as one."""
    (kernel, bias), (outer, outer_bias) = first, second
    matrix = outer[:, :, 0, 0]
    return (matrix @ kernel[:, :, 0, 0])[..., None, None], matrix @ bias + outer_bias


def difference(conv: tuple[Array, Array]) -> tuple[Array, Array]:
    """The second output less the first: softmax over two logits is the sigmoid of their difference."""
    kernel, bias = conv
    return kernel[1:] - kernel[:1], bias[1:] - bias[:1]


def fused_levels(convs: Sequence[tuple[Array, Array]], weight: NDArray[Any]) -> tuple[Array, Array]:
    """Several levels' convolutions, summed under softmax(weight), as one over their inputs side by side."""
    share = np.exp(weight.astype(np.float64) - weight.max())
    share /= share.sum()
    kernel = np.concatenate([s * k for s, (k, _) in zip(share, convs, strict=True)], axis=1)
    return kernel, sum(s * b for s, (_, b) in zip(share, convs, strict=True))


def f32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
