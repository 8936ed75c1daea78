"""The backbones in their fast form: batch norms folded, uint8 crops in.

Nodes are named as the plain form's modules: `backbone/features.3/expand`, `backbone/layer3.0/conv2`.
"""

from __future__ import annotations

import numpy as np

from jntrt.export.families.siamese.fast.fold import Weights, conv_norm, f32, plain_conv
from jntrt.export.families.siamese.plain.backbones import DILATIONS, LAYERS, STRIDES
from jntrt.export.families.siamese.plain.hne import MEAN, STD
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.export.onnx.layers import convolution
from jntrt.export.onnx.value import Value


def mobilenet(crop: Value, recipe: Recipe, weights: Weights) -> Value:
    """uint8 RGB B×S×S×3 → features B×C×n×n. The network wants BGR: the first kernel takes RGB instead."""
    graph, name = crop.graph, "backbone.features"
    with graph.scope("backbone"):
        x = crop.float("pixels").transpose(0, 3, 1, 2, name="channels")
        with graph.scope("features.0"):
            kernel, bias = conv_norm(weights, f"{name}.0.0", f"{name}.0.1")
            x = convolution(x, f32(kernel[:, ::-1]), f32(bias), "conv", stride=2).hard_swish()
        inputs = recipe.stem
        for i, block in enumerate(recipe.blocks, 1):
            with graph.scope(f"features.{i}"):
                x = _inverted_residual(x, inputs, block, f"{name}.{i}.conv", weights)
            inputs = block[2]
        return x


def _inverted_residual(x: Value, inputs: int, block: tuple[int, ...], name: str, weights: Weights) -> Value:
    _, hidden, outputs, squeeze, hswish, stride = block
    before = x
    if hidden != inputs:
        with x.graph.role("int8"):
            x = folded(x, weights, f"{name}.0", f"{name}.1", "expand")
        x = _activation(x, hswish, "expand/activation")
    depthwise, norm, excite, project = (0, 1, 3, 4) if hidden == inputs else (3, 4, 5, 7)
    with x.graph.role("int8"):
        x = folded(
            x, weights, f"{name}.{depthwise}", f"{name}.{norm}", "depthwise", stride=stride, groups=hidden
        )
    if hidden == inputs:
        x = _activation(x, hswish, "activation")
    if squeeze:
        x = _excite(x, weights, f"{name}.{excite}.fc")
    if hidden != inputs:
        x = _activation(x, hswish, "activation")
    with x.graph.role("int8"):
        x = folded(x, weights, f"{name}.{project}", f"{name}.{project + 1}", "project")
    return (x + before).named("sum") if stride == 1 and inputs == outputs else x


def _excite(x: Value, weights: Weights, name: str) -> Value:
    """Squeeze-and-excitation; its two linears are 1×1 convolutions of the 1×1 map of means."""
    with x.graph.scope("squeeze"):
        y = x.global_average_pool("mean")
        for i, kind in ((0, "reduce"), (2, "expand")):
            kernel = weights[f"{name}.{i}.weight"][:, :, None, None]
            y = convolution(y, f32(kernel), weights[f"{name}.{i}.bias"], kind)
            y = y.hard_sigmoid("weight") if i else y.relu()
        return (x * y).named("weighted")


def _activation(x: Value, hswish: int, name: str) -> Value:
    return x.hard_swish(name) if hswish else x.relu(name)


def resnet(crop: Value, recipe: Recipe, weights: Weights) -> list[Value]:
    """uint8 RGB B×S×S×3 → features of layers 2, 3 and 4.

    Scale and deviation are in the first kernel. The mean is subtracted before it: that convolution pads, and
    its padding is the mean colour, not black.
    """
    graph, name = crop.graph, "backbone"
    with graph.scope("backbone"):
        x = crop.float("pixels").transpose(0, 3, 1, 2, name="channels")
        mean = 255 * np.array(MEAN).reshape(1, 3, 1, 1)
        x = (x - graph.constant(f32(mean), "mean")).named("centred")
        kernel, bias = conv_norm(weights, f"{name}.conv1", f"{name}.bn1")
        deviation = 255 * np.array(STD)[:, None, None]
        x = convolution(x, f32(kernel / deviation), f32(bias), "conv1", stride=2).relu("conv1/relu")
        x = graph.op("MaxPool", x, name="pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        levels = []
        with graph.role("int8"):
            for i, layer in enumerate(LAYERS):
                for n in range(recipe.blocks[i][0]):
                    with graph.scope(f"{layer}.{n}"):
                        dilation = DILATIONS[i] if n else DILATIONS[max(i - 1, 0)]
                        stride = 1 if n else STRIDES[i]
                        x = _bottleneck(x, weights, f"{name}.{layer}.{n}", stride, dilation)
                levels.append(x)
        return levels[1:]


def _bottleneck(x: Value, weights: Weights, name: str, stride: int, dilation: int) -> Value:
    y = folded(x, weights, f"{name}.conv1", f"{name}.bn1", "conv1").relu("conv1/relu")
    y = folded(y, weights, f"{name}.conv2", f"{name}.bn2", "conv2", stride=stride, dilation=dilation).relu(
        "conv2/relu"
    )
    y = folded(y, weights, f"{name}.conv3", f"{name}.bn3", "conv3")
    if f"{name}.downsample.0.weight" in weights:
        x = folded(x, weights, f"{name}.downsample.0", f"{name}.downsample.1", "downsample", stride=stride)
    return (y + x).named("sum").relu()


def folded(
    x: Value,
    weights: Weights,
    conv: str,
    norm: str | None,
    name: str,
    *,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> Value:
    """A convolution of the checkpoint with its batch norm, where it has one."""
    kernel, bias = plain_conv(weights, conv) if norm is None else conv_norm(weights, conv, norm)
    return convolution(
        x, f32(kernel), f32(bias), name, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
