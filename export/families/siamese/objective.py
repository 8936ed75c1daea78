"""What the Siamese trackers are trained for: sampling and loss of the papers (`contract.Objective`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

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

FINE_TUNING: dict[str, Any] = {
    "lr": 2e-4,
    "backbone_lr": 0.1,
    "frozen_norm": True,
    "batch": 18,
    "steps": 450,
    "positive": 1.0,
    "weight_decay": 1e-4,
    "beta2": 0.999,
    "warmup": 20,
    "decay": "linear",
    "decay_from": 0.6,
    "clip": 5.0,
    "ema": 0.98,
    "brake": 2.0,
}
"""What a configuration says to teach a trained network a new kind of video."""

SHIFT = 64.0  # ± pixels of the search crop, per axis
SCALE = 0.18  # ± of the target's size
EMPHASIS_WEIGHT = 0.1


@dataclass(frozen=True)
class Settings:
    """What a configuration may say of this family's training.

    backbone_lr: the backbone's share of the learning rate; frozen: steps in which it does not learn at all;
    frozen_norm: batch norms keep their statistics; emphasis: HNE's weight of the hard negatives, 0: none.
    original: the checkpoint that a fine-tuned NanoTrack stays near ("": none), by `brake`, the weight of the
    distance from its outputs on regions of photographs, and `half_way`, its share in the finished weights.
    """

    backbone_lr: float = 0.1
    frozen: int = 0
    frozen_norm: bool = False
    emphasis: float | None = None
    """None: as published, 0.1 for HNE and 0 for NanoTrack."""
    original: str = ""
    brake: float = 0.0
    half_way: float = 0.0

    def __post_init__(self) -> None:
        for name in ("backbone_lr", "emphasis", "brake"):
            value = getattr(self, name)
            if value is not None and not (
                type(value) in (int, float) and math.isfinite(value) and value >= 0
            ):
                raise UserError(f"{name} {value!r} has to be a number of at least 0")
        if self.frozen < 0:
            raise UserError(f"frozen {self.frozen} has to be at least 0")
        if type(self.frozen_norm) is not bool:
            raise UserError(f"frozen_norm {self.frozen_norm!r} has to be true or false")
        if not 0 <= self.half_way <= 1:
            raise UserError(f"half_way {self.half_way} has to be between 0 and 1")
        if (self.brake or self.half_way) and not self.original:
            raise UserError("brake and half_way need original: name the checkpoint that training begins with")


class Objective:
    """The papers' training of one recipe."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        if recipe.is_hne and settings.brake:
            raise UserError("brake is for NanoTrack: leave it out")
        self.recipe, self.settings = recipe, settings
        published = EMPHASIS_WEIGHT if recipe.is_hne else 0.0
        self.emphasis: float = published if settings.emphasis is None else settings.emphasis
        own = ("focal", "centerness", "iou") if recipe.is_hne else ("nll", "iou")
        self.parts = (*own, *(["contrastive"] * bool(self.emphasis)), *(["brake"] * bool(settings.brake)))
        self._before: Network | None = None

    def network(self) -> Network:
        """The plain form, with the convolutions that only the emphasis needs."""
        model = plain(self.recipe)
        if self.emphasis:
            levels = 2 if self.recipe.is_hne else 1
            model.emphasis = Emphasis(levels * self.recipe.width, self.recipe.width)
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
        """HNE's or NanoTrack's loss and its parts.

        With the brake, a region of a photograph is no target to learn: the network stays itself there.
        """
        frozen = step < self.settings.frozen
        network.backbone.requires_grad_(not frozen)
        if frozen:
            network.backbone.eval()
        if self.settings.frozen_norm:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        crops = network.normalise(batch["template"]), network.normalise(batch["search"])
        out = network(*crops)
        size = self.recipe.search_size
        centre, half = batch["box"][:, :2] - 0.5, batch["box"][:, 2:] / 2
        boxes = torch.cat((centre - half, centre + half), dim=1) * size  # from the centre, as points are
        cells = torch.from_numpy(points(self.recipe)).to(boxes)
        present = batch["present"]
        departure = None
        if self.settings.brake:
            region = batch["region"]
            departure = self._departure(out, crops, region)
            # Left out, not called absent: what an absent target's box covers is learnt as background.
            out = {name: maps[~region] for name, maps in out.items()}
            boxes, present = boxes[~region], present[~region]
        own_loss = hne_loss if self.recipe.is_hne else nanotrack_loss
        parts = own_loss(out, cells, boxes, present)
        if self.emphasis:
            hne = self.recipe.is_hne
            parts["contrastive"] = emphasis_loss(
                network.emphasis,
                out["template_features" if hne else "zf"],
                out["search_features" if hne else "xf"],
                self.recipe.stride,
                found_boxes(out, cells),
                boxes,
                present,
                (size - 1) / 2,
            )
            parts["loss"] = parts["loss"] + self.emphasis * parts["contrastive"]
        if departure is not None:
            parts["brake"] = departure
            parts["loss"] = parts["loss"] + self.settings.brake * departure
        return parts

    def finished(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the plain form, `half_way` between the original's and the trained ones."""
        own = plain(self.recipe).state_dict()
        taken = {name: weights[name] for name in own}
        if self.settings.half_way:
            before = self._original().state_dict()
            taken = {
                name: value.lerp(before[name].to(value), self.settings.half_way)
                if value.is_floating_point()
                else value
                for name, value in taken.items()
            }
        return taken

    def _original(self) -> Network:
        # Fresh weights take random numbers: a run that resumes, and builds them later, draws the same cells.
        with torch.random.fork_rng(devices=[]):
            model = plain(self.recipe)
        load_weights(model, read_checkpoint(Path(self.settings.original)).weights)
        return model.eval()

    def _departure(self, out: Mapping[str, Tensor], crops: tuple[Tensor, Tensor], regions: Tensor) -> Tensor:
        if not regions.any():
            return out["cls"].sum() * 0
        if self._before is None:
            self._before = self._original().to(regions.device)
        with torch.no_grad():
            before = self._before(*(crop[regions] for crop in crops))
        return losses.departure(out["cls"][regions], out["loc"][regions], before["cls"], before["loc"])

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


def found_boxes(out: Mapping[str, Tensor], cells: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes of all cells, B×N×4 x1, y1, x2, y2 in the pixels of `cells`, and their scores B×N."""
    if "C" in out:
        scores = out["S"].softmax(dim=1)[:, 1] * out["C"][:, 0].sigmoid()
        sides = DISTANCE_UNIT * out["R"].exp()
    else:
        scores, sides = out["cls"].softmax(dim=1)[:, 1], out["loc"]
    sides = sides.flatten(2).transpose(1, 2)
    return torch.cat((cells - sides[..., :2], cells + sides[..., 2:]), dim=2), scores.flatten(1)


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
