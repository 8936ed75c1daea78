"""Depth-wise correlation with a kernel that is a tensor of the graph, no constant."""

from __future__ import annotations

from jntrt.export.onnx.layers import correlation
from jntrt.export.onnx.value import Value


def depthwise_correlation(
    x: Value, kernel: Value, name: str, shape: tuple[int, int, int, int], padding: int = 0
) -> Value:
    """x B×C×n×n with kernel B×C×k×k, each channel with its own: B×C×m×m, m = n + 2·padding - k + 1.

    shape: (B, C, n, k).

    The batch is folded into the channels of one grouped convolution.
    """
    batch, channels, side, kernel_side = shape
    out = side + 2 * padding - kernel_side + 1
    groups = batch * channels
    x = x.reshape(1, groups, side, side, name=f"{name}/instance")
    kernel = kernel.reshape(groups, 1, kernel_side, kernel_side, name=f"{name}/kernel")
    y = correlation(x, kernel, f"{name}/correlation", groups=groups, padding=padding)
    return y.reshape(batch, channels, out, out, name=name)
