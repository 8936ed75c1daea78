"""The two backbones of the family, under the names of their published weights: MobileNetV3 and ResNet."""

from __future__ import annotations

from torch import Tensor, nn

from jntrt.export.families.siamese.recipe import Recipe


class MobileNetV3(nn.Module):
    """NanoTrack's backbone: a stem of stride 2, then inverted residuals; stride 16 in all."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(3, recipe.stem, 3, 2, 1, bias=False), nn.BatchNorm2d(recipe.stem), nn.Hardswish()
        )
        widths = [recipe.stem, *(block[2] for block in recipe.blocks)]
        blocks = (
            InvertedResidual(inputs, *block) for inputs, block in zip(widths[:-1], recipe.blocks, strict=True)
        )
        self.features = nn.Sequential(stem, *blocks)

    def forward(self, image: Tensor) -> Tensor:
        """B×3×S×S → B×C×⌈S/16⌉×⌈S/16⌉."""
        features: Tensor = self.features(image)
        return features


class InvertedResidual(nn.Module):
    """1×1 to `hidden` channels, k×k depth-wise, 1×1 to `outputs`.

    Where `hidden` is the input's width, there is no first 1×1. Squeeze-and-excitation comes before the
    activation where there is one, after it where there is none.
    """

    def __init__(
        self, inputs: int, kernel: int, hidden: int, outputs: int, squeeze: int, hswish: int, stride: int
    ) -> None:
        super().__init__()

        def activation() -> nn.Module:
            return nn.Hardswish() if hswish else nn.ReLU()

        depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        excite = SqueezeExcite(hidden, squeeze) if squeeze else nn.Identity()
        project = (nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        if hidden == inputs:
            layers: tuple[nn.Module, ...] = (
                depthwise,
                nn.BatchNorm2d(hidden),
                activation(),
                excite,
                *project,
            )
        else:
            expand = (nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation())
            layers = (*expand, depthwise, nn.BatchNorm2d(hidden), excite, activation(), *project)
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class SqueezeExcite(nn.Module):
    """Channels weighted by a two-layer network of their means."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.fc(x.mean(dim=(2, 3)))
        return x * weight[:, :, None, None]


LAYERS = ("layer1", "layer2", "layer3", "layer4")
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)


class ResNet(nn.Module):
    """Bottleneck ResNet at stride 8: layers 3 and 4 are dilated by 2 and 4 instead of strided.

    The first block of a layer still has the dilation of the layer before it.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, recipe.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(recipe.stem)
        self.pool = nn.MaxPool2d(3, 2, 1)
        widths = [recipe.stem, *(outputs for _, _, outputs in recipe.blocks)]
        before = 1
        for i, (count, inner, outputs) in enumerate(recipe.blocks):
            dilations = [before, *[DILATIONS[i]] * (count - 1)]
            inputs = [widths[i], *[outputs] * (count - 1)]
            strides = [STRIDES[i], *[1] * (count - 1)]
            blocks = (
                Bottleneck(a, inner, outputs, stride, dilation)
                for a, stride, dilation in zip(inputs, strides, dilations, strict=True)
            )
            self.add_module(LAYERS[i], nn.Sequential(*blocks))
            before = DILATIONS[i]

    def forward(self, image: Tensor) -> list[Tensor]:
        """B×3×S×S → features of layers 2, 3 and 4, each B×C×⌈S/8⌉×⌈S/8⌉."""
        x = self.pool(self.bn1(self.conv1(image)).relu())
        levels = []
        for name in LAYERS:
            x = self.get_submodule(name)(x)
            levels.append(x)
        return levels[1:]


class Bottleneck(nn.Module):
    """1×1, 3×3 (stride, dilation), 1×1, and the input added: through a 1×1 of its own where shapes differ."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y)) + self.downsample(x)
        out: Tensor = y.relu()
        return out
