"""The hard-negative emphasis tracker in its plain form: ResNet, neck, one head per level, levels fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from jntrt.export.families.plain import PlainForm
from jntrt.export.families.siamese.plain.backbones import ResNet
from jntrt.export.families.siamese.plain.decode import decode
from jntrt.export.families.siamese.plain.nanotrack import correlate_depthwise
from jntrt.export.families.siamese.recipe import Recipe

LEVELS = ("2", "3", "4")
EXEMPLAR_CELLS = 7  # of the exemplar's features after the neck: its centre
DISTANCE_UNIT = 8.0  # instance pixels that exp(R) counts
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class HardNegativeTracker(PlainForm):
    """The tracker that a recipe describes."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.backbone = ResNet(recipe)
        channels = [outputs for _, _, outputs in recipe.blocks[1:]]
        self.neck = nn.ModuleDict(
            {level: ConvNorm(inputs, recipe.width, 1) for level, inputs in zip(LEVELS, channels, strict=True)}
        )
        self.head = nn.ModuleDict({level: Head(recipe) for level in LEVELS})
        self.level_weight = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(len(LEVELS))) for name in ("score", "centerness", "distance")}
        )
        for name in recipe.biases:
            conv = self.get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels))

    def normalise(self, crop: Tensor) -> Tensor:
        """uint8 RGB crops B×S×S×3 → float32 B×3×S×S, ImageNet mean and deviation."""
        mean, std = (torch.tensor(v, device=crop.device) for v in (MEAN, STD))
        return ((crop.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def features(self, image: Tensor) -> list[Tensor]:
        """Neck features of levels 2, 3 and 4, each B×C×⌈S/8⌉×⌈S/8⌉, of a prepared image."""
        return [self.neck[level](x) for level, x in zip(LEVELS, self.backbone(image), strict=True)]

    def forward(self, template: Tensor, search: Tensor) -> dict[str, Tensor]:
        """Maps of one template and search crop per sample, both as `normalise` makes them.

        Returns the fused maps before softmax, sigmoid and exp: `S` B×2×n×n (background first), `C` B×1×n×n,
        `R` B×4×n×n; the exemplar's kernels `kernel_L_B` B×C×5×5 for level L and branch B (cls, reg); and the
        necks' `template_features` and `search_features` of levels 3 and 4, concatenated.
        """
        z, x = self.features(template), self.features(search)
        out = {}
        maps = []
        for level, exemplar, instance in zip(LEVELS, z, x, strict=True):
            edge = (exemplar.shape[-1] - EXEMPLAR_CELLS) // 2
            kept = slice(edge, edge + EXEMPLAR_CELLS)
            found, kernels = self.head[level](exemplar[..., kept, kept], instance)
            maps.append(found)
            out.update({f"kernel_{level}_{branch}": kernel for branch, kernel in kernels.items()})
        for i, (key, name) in enumerate((("S", "score"), ("C", "centerness"), ("R", "distance"))):
            out[key] = fuse([level[i] for level in maps], self.level_weight[name])
        out["template_features"] = torch.cat(z[1:], dim=1)
        out["search_features"] = torch.cat(x[1:], dim=1)
        return out

    def predict(
        self, inputs: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """`box` and `score`, as the contract says; nothing is kept or dropped here."""
        return self.decode(self(inputs["template"], inputs["search"]), inputs["previous_size"])

    def decode(self, out: dict[str, Tensor], previous_size: Tensor) -> dict[str, Tensor]:
        """`box` and `score` of the maps, and more: see `decode.decode`."""
        score = out["S"].softmax(dim=1)[:, 1] * out["C"][:, 0].sigmoid()
        return decode(self.recipe, score, DISTANCE_UNIT * out["R"].exp(), previous_size)


class Head(nn.Module):
    """One level's two branches."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.cls = Branch(recipe.width, recipe.cls_tower, {"score": (2, 3), "centerness": (1, 1)})
        self.reg = Branch(recipe.width, recipe.reg_tower, {"distance": (4, 3)})

    def forward(self, z: Tensor, x: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Score, centre-ness and distance logits, and the kernels of both branches."""
        (score, centerness), cls_kernel = self.cls(z, x)
        (distance,), reg_kernel = self.reg(z, x)
        return [score, centerness, distance], {"cls": cls_kernel, "reg": reg_kernel}


class Branch(nn.Module):
    """Correlation of exemplar and instance, a tower, and its last convolutions (name: outputs, kernel)."""

    def __init__(self, width: int, kernels: Sequence[int], outputs: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.kernel = ConvNorm(width, width, 3, padding=0)
        self.search = ConvNorm(width, width, 3, padding=0)
        self.tower = nn.ModuleList(ConvNorm(width, width, k, padding=k // 2) for k in kernels)
        self.outputs = tuple(outputs)
        for name, (count, k) in outputs.items():
            self.add_module(name, nn.Conv2d(width, count, k, padding=k // 2))

    def forward(self, z: Tensor, x: Tensor) -> tuple[list[Tensor], Tensor]:
        kernel = self.kernel(z).relu()
        x = correlate_depthwise(self.search(x).relu(), kernel)
        for layer in self.tower:
            x = layer(x).relu()
        return [self.get_submodule(name)(x) for name in self.outputs], kernel


class ConvNorm(nn.Module):
    """Convolution without bias and batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


def fuse(levels: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Sum of the levels' maps under softmax(weight)."""
    return torch.einsum("l,l...->...", weight.softmax(dim=0), torch.stack(list(levels)))
