"""The prediction heads of OSTrack (centre, corner) and JN (distribution), plain form.

Every head maps the search map B×D×n×n to a dict of tensors, and `decode` turns that into a box and a presence
score. Boxes are cx, cy, w, h in units of the search crop.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from jntrt.export.families.ostrack.recipe import Recipe

# Background is 99 cells in 100 at the start of training (focal loss, section 4.1 of RetinaNet).
PRIOR_BIAS = -math.log(99.0)


def hann(side: int) -> Tensor:
    """The n×n window on the response: h[k] = ½·(1 - cos(2π·(k+1)/(n+1))), outer product of two."""
    k = torch.arange(1, side + 1, dtype=torch.float64)
    h = 0.5 * (1 - torch.cos(2 * math.pi * k / (side + 1)))
    return torch.outer(h, h).float()


class ConvTower(nn.Module):
    """Named branches of four conv3×3 + BN + ReLU (C, C/2, C/4, C/8 channels) and a conv1×1.

    The released state dict keeps the branches apart by name only: `convK_BRANCH`, all in the head itself.
    """

    def __init__(self, recipe: Recipe, outputs: dict[str, int]) -> None:
        super().__init__()
        c = recipe.head_channels
        widths = (recipe.dim, c, c // 2, c // 4, c // 8)
        for branch, channels in outputs.items():
            for k in range(4):
                layer = nn.Sequential(
                    nn.Conv2d(widths[k], widths[k + 1], 3, padding=1),
                    nn.BatchNorm2d(widths[k + 1]),
                    nn.ReLU(),
                )
                self.add_module(f"conv{k + 1}_{branch}", layer)
            self.add_module(f"conv5_{branch}", nn.Conv2d(widths[4], channels, 1))

    def branch(self, name: str, x: Tensor) -> Tensor:
        for k in range(1, 6):
            x = self.get_submodule(f"conv{k}_{name}")(x)
        return x


class CenterHead(ConvTower):
    """OSTrack's head: score, offset and size maps."""

    branches = ("ctr", "offset", "size")
    window: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, {"ctr": 1, "offset": 2, "size": 2})
        self.register_buffer("window", hann(recipe.search_side), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """`score` B×1×n×n, `size` B×2×n×n (w, h; both sigmoid, clamped), `offset` B×2×n×n, `score_logits`."""
        logits = self.branch("ctr", x)
        return {
            "score_logits": logits,
            "score": logits.sigmoid().clamp(1e-4, 1 - 1e-4),
            "offset": self.branch("offset", x),
            "size": self.branch("size", x).sigmoid().clamp(1e-4, 1 - 1e-4),
        }

    def decode(self, out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """B×4 box and B presence at the arg-max of score × window (first in row-major order)."""
        cell = (out["score"] * self.window).flatten(1).argmax(dim=1)
        return self.box_at(out, cell), at_cell(out["score"], cell)[:, 0]

    def box_at(self, out: dict[str, Tensor], cell: Tensor) -> Tensor:
        """B×4 box that the maps give at flat cell B."""
        side = self.window.shape[0]
        corner = torch.stack((cell % side, cell // side), dim=1).float()
        centre = (corner + at_cell(out["offset"], cell)) / side
        return torch.cat((centre, at_cell(out["size"], cell)), dim=1)


class CornerHead(ConvTower):
    """Top-left and bottom-right probability maps; the box is their expectation (no window)."""

    branches = ("tl", "br")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, {"tl": 1, "br": 1})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """`tl_logits`, `br_logits` B×1×n×n and `tl`, `br`: their softmax over all cells."""
        out = {f"{name}_logits": self.branch(name, x) for name in self.branches}
        for name in self.branches:
            logits = out[f"{name}_logits"]
            out[name] = logits.flatten(1).softmax(dim=1).reshape(logits.shape)
        return out

    def decode(self, out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """B×4 box, and B presence: the geometric mean of the two maps' largest probabilities."""
        (x1, y1), (x2, y2) = (expected_position(out[name]) for name in self.branches)
        box = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=1)
        peaks = [out[name].flatten(1).amax(dim=1) for name in self.branches]
        return box, (peaks[0] * peaks[1]).sqrt()


class DistributionHead(ConvTower):
    """JN's head: per cell and side a distribution over distances in cells, and σ = C · M(F) (as in GFLv2)."""

    branches = ("cls", "reg")
    window: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, {"cls": 1, "reg": 4 * recipe.bins})
        self.bins = recipe.bins
        self.quality = Quality(20, recipe.quality_dim)
        self.register_buffer("window", hann(recipe.search_side), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Sides in the order l, t, r, b.

        `cls_logits`, `C`, `M`, `sigma` B×1×n×n; `reg_logits` and `distribution` (softmax over the bins)
        B×4×bins×n×n; `distances` B×4×n×n in cells.
        """
        cls_logits = self.branch("cls", x)
        reg_logits = self.branch("reg", x).reshape(-1, 4, self.bins, *x.shape[2:])
        distribution = reg_logits.softmax(dim=2)
        bins = torch.arange(self.bins, dtype=x.dtype, device=x.device)
        top = distribution.topk(4, dim=2).values
        features = torch.cat((top, top.mean(dim=2, keepdim=True)), dim=2).flatten(1, 2)
        c, m = cls_logits.sigmoid(), self.quality(features)
        return {
            "cls_logits": cls_logits,
            "reg_logits": reg_logits,
            "distribution": distribution,
            "distances": (distribution * bins[:, None, None]).sum(dim=2),
            "C": c,
            "M": m,
            "sigma": c * m,
        }

    def decode(self, out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """B×4 box and B presence σ at the arg-max of σ × window (first in row-major order)."""
        cell = (out["sigma"] * self.window).flatten(1).argmax(dim=1)
        return self.box_at(out, cell), at_cell(out["sigma"], cell)[:, 0]

    def box_at(self, out: dict[str, Tensor], cell: Tensor) -> Tensor:
        """B×4 box that the distances give at flat cell B."""
        side = self.window.shape[0]
        point = torch.stack((cell % side, cell // side), dim=1).float() + 0.5
        distances = at_cell(out["distances"], cell)
        low, high = point - distances[:, :2], point + distances[:, 2:]
        return torch.cat(((low + high) / 2, high - low), dim=1) / side


class Quality(nn.Module):
    """M(F): how well the shape of the four distributions vouches for the cell's box, 0 … 1."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features: B×20×n×n → B×1×n×n."""
        hidden = self.fc1(features.permute(0, 2, 3, 1)).relu()
        quality: Tensor = self.fc2(hidden).sigmoid()
        return quality.permute(0, 3, 1, 2)


HEADS: dict[str, type[CenterHead] | type[CornerHead] | type[DistributionHead]] = {
    "center": CenterHead,
    "corner": CornerHead,
    "distribution": DistributionHead,
}


def at_cell(maps: Tensor, cell: Tensor) -> Tensor:
    """Values of B×C×n×n maps at flat cell B: B×C."""
    return maps.flatten(2).gather(2, cell[:, None, None].expand(-1, maps.shape[1], 1))[:, :, 0]


def expected_position(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Expected x and y (each B, units of the crop) under B×1×n×n probabilities; cell k counts as k/n."""
    side = probability.shape[-1]
    k = torch.arange(side, dtype=probability.dtype, device=probability.device) / side
    return (probability.sum(dim=2)[:, 0] * k).sum(dim=1), (probability.sum(dim=3)[:, 0] * k).sum(dim=1)
