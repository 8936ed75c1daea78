"""Depth-wise correlation with a kernel that is a tensor of the graph, no constant.

One grouped convolution. Written out instead (a sum of sliced products, or a gathered unfolding times the
kernel, summed or as a matrix product) it took 1.2 to 19 times as long in ONNX Runtime and no less in
OpenVINO, and as many layers, give or take five, in TensorRT-RTX's builds for SM75 and SM89.
"""

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
