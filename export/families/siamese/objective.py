"""What the Siamese trackers are trained for: sampling and loss of the papers (`contract.Objective`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.families.contract import Box
from jntrt.export.families.plain import PlainForm, load_weights
from jntrt.export.families.siamese.plain.decode import points
from jntrt.export.families.siamese.plain.hne import DISTANCE_UNIT
from jntrt.export.families.siamese.plain.network import Network, plain
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.export.families.siamese.training import losses
from jntrt.export.families.siamese.training.emphasis import Emphasis, emphasis_loss
from jntrt.runtime.errors import UserError
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

SHIFT = 64.0  # ± pixels of the search crop, per axis
SCALE = 0.18  # ± of the target's size
EMPHASIS_WEIGHT = 0.1


@dataclass(frozen=True)
class Settings:
    """What a configuration may say of this family's training.

    backbone_lr: the backbone's share of the learning rate; frozen: steps in which it does not learn at all.
    """

    backbone_lr: float = 0.1
    frozen: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.backbone_lr) and self.backbone_lr >= 0):
            raise UserError(f"backbone_lr {self.backbone_lr} has to be at least 0")
        if self.frozen < 0:
            raise UserError(f"frozen {self.frozen} has to be at least 0")


class Objective:
    """The papers' training of one recipe."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self.recipe, self.settings = recipe, settings
        self.parts = ("focal", "centerness", "iou", "contrastive") if recipe.is_hne else ("nll", "iou")

    def network(self) -> Network:
        """The plain form; HNE's with the convolutions that only its emphasis needs."""
        model = plain(self.recipe)
        if self.recipe.is_hne:
            model.emphasis = Emphasis(self.recipe.width)
        return model

    def initialise(
        self, model: PlainForm, start: str, photos: list[NDArray[np.uint8]] | None, seed: int
    ) -> None:
        """start: "plain" (as built), or a checkpoint whose weights the model has to fill."""
        if start != "plain":
            load_weights(plain_part(model), read_checkpoint(Path(start)).weights)

    def optimised(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """`backbone_lr` for the backbone; decay on all."""
        return (self.settings.backbone_lr if name.startswith("backbone.") else 1.0), True

    def jitter(self, box: Box, rng: np.random.Generator) -> Box:
        """Shifted by up to 64 pixels of the crop, each side scaled by up to 18 %."""
        x, y, w, h = box
        context = math.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))
        dx, dy = rng.uniform(-SHIFT, SHIFT, 2) * context / self.recipe.template_size
        factor_w, factor_h = 1 + rng.uniform(-SCALE, SCALE, 2)
        cx, cy, w, h = x + w / 2 + dx, y + h / 2 + dy, w * factor_w, h * factor_h
        return cx - w / 2, cy - h / 2, w, h

    def side_inputs(self, box: Box) -> dict[str, NDArray[Any]]:
        """None."""
        return {}

    def mirrored(self, side_inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """None either."""
        return side_inputs

    def loss(self, network: Any, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """HNE's or NanoTrack's loss and its parts."""
        frozen = step < self.settings.frozen
        network.backbone.requires_grad_(not frozen)
        if frozen:
            network.backbone.eval()
        out = network(network.normalise(batch["template"]), network.normalise(batch["search"]))
        size = self.recipe.search_size
        centre, half = batch["box"][:, :2] - 0.5, batch["box"][:, 2:] / 2
        boxes = torch.cat((centre - half, centre + half), dim=1) * size  # from the centre, as points are
        cells = torch.from_numpy(points(self.recipe)).to(boxes)
        if not self.recipe.is_hne:
            return nanotrack_loss(out, cells, boxes, batch["present"])
        parts = hne_loss(out, cells, boxes, batch["present"])
        middle = (size - 1) / 2
        parts["contrastive"] = emphasis_loss(network.emphasis, out, cells, boxes, batch["present"], middle)
        parts["loss"] = parts["loss"] + EMPHASIS_WEIGHT * parts["contrastive"]
        return parts

    def distillation(self, model: PlainForm, channels: int) -> nn.Module:
        """There is none."""
        raise UserError("distillation is for the family ostrack: leave the teacher out")

    def at(self, step: int) -> Recipe:
        """The recipe: it is the same at every step."""
        return self.recipe


def plain_part(model: PlainForm) -> PlainForm:
    """The network without what only training has, over the same parameters."""
    bare: PlainForm = plain(model.recipe)
    for name, _ in list(bare.named_children()):
        setattr(bare, name, model.get_submodule(name))
    return bare


def nanotrack_loss(
    out: Mapping[str, Tensor], cells: Tensor, boxes: Tensor, present: Tensor
) -> dict[str, Tensor]:
    """½ NLL + ½ NLL of the drawn cells, plus mean 1 - IoU of the drawn positives.

    cells: N×2 points; boxes: B×4 x1, y1, x2, y2 in the same pixels; present: B bool.
    """
    labels = losses.draw_cells(losses.ellipse_labels(cells, boxes), present)
    nll = losses.balanced_nll(out["cls"].flatten(2), labels)
    true = losses.side_distances(cells, boxes).clamp(min=0)
    iou = losses.distance_iou(out["loc"].flatten(2).transpose(1, 2), true, smooth=1.0)
    reach = losses.mean_of(1 - iou, labels == 1)
    return {"loss": nll + reach, "nll": nll, "iou": reach}


def hne_loss(out: Mapping[str, Tensor], cells: Tensor, boxes: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Focal of all cells by the number of positives, BCE of the centre-ness and -ln IoU of the positives.

    Arguments as `nanotrack_loss`'s; a cell is positive where its point lies inside the true box.
    """
    targets = losses.centerness_targets(cells, boxes)
    positive = (targets > 0) & present[:, None]
    foreground = out["S"].softmax(dim=1)[:, 1].flatten(1)
    focal = losses.focal(foreground, positive).sum() / positive.sum().clamp(min=1)
    bce = functional.binary_cross_entropy_with_logits(out["C"].flatten(1), targets, reduction="none")
    centerness = losses.mean_of(bce, positive)
    distances = DISTANCE_UNIT * out["R"].exp().flatten(2).transpose(1, 2)
    true = losses.side_distances(cells, boxes).clamp(min=0)
    iou = losses.mean_of(-losses.distance_iou(distances, true).clamp(min=1e-6).log(), positive)
    loss = focal + centerness + iou
    return {"loss": loss, "focal": focal, "centerness": centerness, "iou": iou}
