"""NanoTrack v1, v2 and v3 in their plain form: MobileNetV3, correlations, two towers (SiamBAN's head).

Module names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from jntrt.export.families.plain import PlainForm
from jntrt.export.families.siamese.plain.backbones import MobileNetV3
from jntrt.export.families.siamese.plain.decode import decode
from jntrt.export.families.siamese.recipe import Recipe


class NanoTrack(PlainForm):
    """The tracker that a recipe describes."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.backbone = MobileNetV3(recipe)
        heads = {"nanotrack-v1": HeadV1, "nanotrack-v2": HeadV2, "nanotrack-v3": HeadV3}
        self.ban_head = heads[recipe.version](recipe)

    def normalise(self, crop: Tensor) -> Tensor:
        """uint8 RGB crops B×S×S×3 → float32 B×3×S×S, BGR, 0 … 255: nothing is normalised."""
        return crop.flip(-1).permute(0, 3, 1, 2).float().contiguous()

    def features(self, image: Tensor) -> Tensor:
        """B×C×⌈S/16⌉×⌈S/16⌉ of a prepared image."""
        features: Tensor = self.backbone(image)
        return features

    def forward(self, template: Tensor, search: Tensor) -> dict[str, Tensor]:
        """Maps of one template and search crop per sample, both as `normalise` makes them.

        Returns `zf` and `xf` (features), `cls` B×2×n×n (logits, background first) and `loc` B×4×n×n
        (distances l, t, r, b in instance pixels).
        """
        z, x = self.features(template), self.features(search)
        cls, loc = self.ban_head(z, x)
        return {"zf": z, "xf": x, "cls": cls, "loc": loc.exp()}

    def predict(
        self, inputs: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """`box` and `score`, as the contract says; nothing is kept or dropped here."""
        return self.decode(self(inputs["template"], inputs["search"]), inputs["previous_size"])

    def decode(self, out: dict[str, Tensor], previous_size: Tensor) -> dict[str, Tensor]:
        """`box` and `score` of the maps, and more: see `decode.decode`."""
        return decode(self.recipe, out["cls"].softmax(dim=1)[:, 1], out["loc"], previous_size)


class HeadV1(nn.Module):
    """One correlation for both branches."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        cells = recipe.template_side**2
        self.corr_pw = PixelwiseCorrelation(cells)
        self.cls_tower = tower(cells, recipe.cls_width, recipe.cls_tower)
        self.bbox_tower = tower(cells, recipe.reg_width, recipe.reg_tower)
        self.cls_logits = nn.Sequential(nn.Conv2d(recipe.cls_width, 2, 1))
        self.bbox_pred = nn.Sequential(nn.Conv2d(recipe.reg_width, 4, 1))

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and log-distances: B×2×n×n, B×4×n×n."""
        shared = self.corr_pw(z, x)
        return self.cls_logits(self.cls_tower(shared)), self.bbox_pred(self.bbox_tower(shared))


class HeadV2(nn.Module):
    """A correlation for each branch, both sides adjusted by a 1×1 first."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        cells = recipe.template_side**2
        self.corr_pw_reg = PixelwiseCorrelation(cells, recipe.width)
        self.corr_pw_cls = PixelwiseCorrelation(cells, recipe.width)
        self.cls_pw_tower = tower(cells, recipe.cls_width, recipe.cls_tower)
        self.bbox_pw_tower = tower(cells, recipe.reg_width, recipe.reg_tower)
        self.cls_pred = nn.Sequential(nn.Conv2d(recipe.cls_width, 2, 1))
        self.bbox_pred = nn.Sequential(nn.Conv2d(recipe.reg_width, 4, 1))

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and log-distances: B×2×n×n, B×4×n×n."""
        cls = self.cls_pred(self.cls_pw_tower(self.corr_pw_cls(z, x)))
        return cls, self.bbox_pred(self.bbox_pw_tower(self.corr_pw_reg(z, x)))


class HeadV3(nn.Module):
    """A pixel-wise and a depth-wise correlation for each branch, side by side."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        cells = recipe.template_side**2
        for branch in ("reg", "cls"):
            self.add_module(f"corr_dw_{branch}", DepthwiseCorrelation(recipe.width))
            self.add_module(f"corr_pw_{branch}", ShrunkCorrelation(cells, recipe.width))
        self.cls_tower = normalised_tower(recipe.cls_width, recipe.cls_tower)
        self.bbox_tower = normalised_tower(recipe.reg_width, recipe.reg_tower)
        self.down_cls = nn.Sequential(nn.Conv2d(cells + recipe.width, recipe.cls_width, 1))
        self.down_reg = nn.Sequential(nn.Conv2d(cells + recipe.width, recipe.reg_width, 1))
        self.cls_logits = nn.Sequential(nn.Conv2d(recipe.cls_width, 2, 1))
        self.bbox_pred = nn.Sequential(nn.Conv2d(recipe.reg_width, 4, 1))

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and log-distances: B×2×n×n, B×4×n×n."""
        cls = self.cls_logits(self.cls_tower(self.down_cls(self._correlate("cls", z, x))))
        return cls, self.bbox_pred(self.bbox_tower(self.down_reg(self._correlate("reg", z, x))))

    def _correlate(self, branch: str, z: Tensor, x: Tensor) -> Tensor:
        pixelwise = self.get_submodule(f"corr_pw_{branch}")(z, x)
        return torch.cat((pixelwise, self.get_submodule(f"corr_dw_{branch}")(z, x)), dim=1)


class PixelwiseCorrelation(nn.Module):
    """Every cell of z as a 1×1 kernel on x, the resulting channels weighted. width 0: no 1×1 before it."""

    def __init__(self, cells: int, width: int = 0) -> None:
        super().__init__()
        self.conv_kernel = adjust(width) if width else nn.Identity()
        self.conv_search = adjust(width) if width else nn.Identity()
        self.CA_layer = ChannelAttention(cells)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """z B×C×k×k, x B×C×n×n → B×k²×n×n."""
        z, x = self.conv_kernel(z), self.conv_search(x)
        similarity = z.flatten(2).transpose(1, 2) @ x.flatten(2)
        weighted: Tensor = self.CA_layer(similarity.reshape(len(x), -1, *x.shape[2:]))
        return weighted


class ShrunkCorrelation(PixelwiseCorrelation):
    """v3's: brought to the depth-wise correlation's size by an unpadded 2×2."""

    def __init__(self, cells: int, width: int) -> None:
        super().__init__(cells, width)
        self.conv = nn.Sequential(
            nn.Conv2d(cells, cells, 2, groups=cells, bias=False),
            nn.BatchNorm2d(cells),
            nn.ReLU6(),
            nn.Conv2d(cells, cells, 1),
            nn.BatchNorm2d(cells),
        )

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """z B×C×k×k, x B×C×n×n → B×k²×(n-1)×(n-1)."""
        shrunk: Tensor = self.conv(super().forward(z, x))
        return shrunk


class DepthwiseCorrelation(nn.Module):
    """The central half of z as one kernel a channel on x, padding 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_kernel, self.conv_search = adjust(width), adjust(width)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """z B×C×k×k, x B×C×n×n → B×C×(n+3-k/2)×(n+3-k/2)."""
        edge = z.shape[-1] // 4
        kernel = self.conv_kernel(z[..., edge : -edge or None, edge : -edge or None])
        return correlate_depthwise(self.conv_search(x), kernel, padding=1)


class ChannelAttention(nn.Module):
    """Channels weighted by a two-layer network of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels, 1)
        self.fc2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.fc2(self.fc1(x.mean(dim=(2, 3), keepdim=True)).relu()).sigmoid()
        return x * weight


def correlate_depthwise(x: Tensor, kernel: Tensor, padding: int = 0) -> Tensor:
    """Each channel of x B×C×n×n with its own kernel B×C×k×k of the same sample; not flipped, not divided."""
    batch, channels = kernel.shape[:2]
    out = functional.conv2d(
        x.flatten(0, 1)[None], kernel.flatten(0, 1)[:, None], padding=padding, groups=batch * channels
    )
    return out.reshape(batch, channels, *out.shape[2:])


def adjust(width: int) -> nn.Sequential:
    """1×1 and batch norm at the same width."""
    return nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))


def tower(inputs: int, width: int, kernels: Sequence[int]) -> nn.Sequential:
    """Depth-wise k×k straight into 1×1, batch norm, ReLU6; one for each kernel."""
    layers: list[nn.Module] = []
    for i, kernel in enumerate(kernels):
        channels = width if i else inputs
        layers += [
            nn.Conv2d(channels, channels, kernel, 1, kernel // 2, groups=channels, bias=False),
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
        ]
    return nn.Sequential(*layers)


def normalised_tower(width: int, kernels: Sequence[int]) -> nn.Sequential:
    """v3's: batch norm and ReLU6 after the depth-wise k×k, batch norm alone after the 1×1."""
    layers: list[nn.Module] = []
    for kernel in kernels:
        layers += [
            nn.Conv2d(width, width, kernel, 1, kernel // 2, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        ]
    return nn.Sequential(*layers)
