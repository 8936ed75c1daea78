"""What OSTrack and JN are trained for: sampling, schedule and loss of the papers (`contract.Objective`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.families.contract import Box
from jntrt.export.families.ostrack.family import side_inputs
from jntrt.export.families.ostrack.plain.encoder import Block
from jntrt.export.families.ostrack.plain.form import ViTForm
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.ostrack.training.initialise import initialise, load_encoder
from jntrt.export.families.ostrack.training.losses import LOSSES, departure, keep_ratio_at
from jntrt.export.families.plain import PlainForm, load_weights
from jntrt.runtime.errors import UserError

FINE_TUNING: dict[str, Any] = {
    "lr": 1e-4,
    "backbone_lr": 0.5,
    "steady": 0.5,
    "batch": 18,
    "steps": 450,
    "positive": 0.8,
    "weight_decay": 1e-4,
    "beta2": 0.999,
    "warmup": 20,
    "decay": "linear",
    "decay_from": 0.6,
    "clip": 1.0,
    "ema": 0.98,
    "brake": 2.0,
}
"""What a configuration says to teach a trained network a new kind of video."""

SCALE_JITTER = 0.25  # OSTrack's: each side times exp(0.25·N(0, 1))
CENTRE_JITTER = 3.0  # at search factor 4: centre + 3·sqrt(w·h)·(U - 0.5) per axis
PARTS = ("l1", "giou", "dfl", "qfl+", "qfl-", "focal", "focal-", "bce-")
STEADY = 0.4  # of both jitters, in the pairs of a steady tracker


@dataclass(frozen=True)
class Settings:
    """What a configuration may say of this family's training.

    backbone_lr: the encoder's share of the learning rate; drop_path: largest stochastic-depth rate;
    ce_start, ce_warm: the warm-up of the keep ratio in steps; steady: share of pairs with two fifths of
    OSTrack's jitter.
    original: the checkpoint that a fine-tuned network stays near ("": none), by `brake`, the weight of the
    distance from its outputs on regions of photographs.
    """

    backbone_lr: float = 1.0
    drop_path: float = 0.0
    ce_start: int = 0
    ce_warm: int = 0
    steady: float = 0.0
    original: str = ""
    brake: float = 0.0

    def __post_init__(self) -> None:
        _check_range("brake", self.brake, math.inf)
        if self.brake and not self.original:
            raise UserError("brake needs original: name the checkpoint that training begins with")
        for name, high in (("backbone_lr", math.inf), ("drop_path", 0.99), ("steady", 1)):
            _check_range(name, getattr(self, name), high)
        for name in ("ce_start", "ce_warm"):
            _check_range(name, getattr(self, name), math.inf)


class Objective:
    """The papers' training of one recipe."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        if min(recipe.dim, recipe.depth, recipe.mlp_dim) < 1 or recipe.head_channels < 8:
            raise UserError("dim, depth and mlp_dim have to be at least 1, head_channels at least 8")
        if recipe.head == "distribution" and (recipe.bins < 4 or recipe.quality_dim < 1):
            raise UserError("the distribution head needs bins (17 in the paper) and quality_dim (64)")
        self.recipe, self.settings = recipe, settings
        self.parts = (*PARTS, "brake") if settings.brake else PARTS
        self._loss = LOSSES[recipe.head]
        self._before: OSTrack | None = None

    def network(self) -> OSTrack:
        """The plain form with drop-path."""
        return OSTrack(self.recipe, self.settings.drop_path)

    def initialise(
        self, model: PlainForm, start: str, photos: list[NDArray[np.uint8]] | None, seed: int
    ) -> None:
        """start: "plain" (as built), "principal" (`initialise`), or a file of an encoder's weights.

        With `original`, its checkpoint: one whose weights the model has to fill.
        """
        assert isinstance(model, ViTForm)
        if self.settings.original and start == self.settings.original:
            load_weights(model, read_checkpoint(Path(start)).weights)
        elif start == "principal":
            if photos is None:
                raise UserError("start: principal needs images/ and masks/ in --data, and synthetic above 0")
            initialise(model, photos, seed)
        elif start != "plain":
            load_encoder(model, Path(start))

    def optimised(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """`backbone_lr` for the encoder; decay on matrices only, not on the positions."""
        scale = self.settings.backbone_lr if name.startswith("backbone.") else 1.0
        return scale, parameter.ndim > 1 and "pos_embed" not in name

    def jitter(self, box: Box, rng: np.random.Generator) -> Box:
        """`jitter` at the search factor, less of it in the steady pairs."""
        share = STEADY if rng.random() < self.settings.steady else 1.0
        return jitter(box, self.recipe.search_factor, rng, share)

    def side_inputs(self, box: Box) -> dict[str, NDArray[Any]]:
        """`target_box` and `template_weights`, where the recipe has a use for them."""
        return dict(side_inputs(self.recipe, box))

    def mirrored(self, side_inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The template's rows mirrored; the target's box is about its centre, and stays."""
        if "template_weights" not in side_inputs:
            return side_inputs
        side = self.recipe.template_side
        rows = side_inputs["template_weights"].reshape(side, side)[:, ::-1]
        return side_inputs | {"template_weights": np.ascontiguousarray(rows).reshape(-1)}

    def loss(self, network: Any, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The head's loss (`losses`) with the keep ratio of this step.

        With the brake, a region of a photograph is no target to learn: the network stays itself there.
        """
        inputs = (
            network.normalise(batch["template"]),
            network.normalise(batch["search"]),
            batch.get("target_box"),
            batch.get("template_weights"),
        )
        ratio = self._ratios(step) or None
        out = network(*inputs, keep_ratio=ratio)
        if not self.settings.brake:
            return self.loss_of(out, batch)
        region = batch["region"]
        maps = {name: value for name, value in out.items() if not name.startswith(("kept.", "similarity."))}
        taught = {name: batch[name][~region] for name in ("box", "present")}
        parts = self.loss_of({name: value[~region] for name, value in maps.items()}, taught)
        parts["brake"] = maps["features"].sum() * 0
        if region.any():
            if self._before is None:
                self._before = self._original().to(region.device)
            with torch.no_grad():
                before = self._before(*(None if x is None else x[region] for x in inputs), keep_ratio=ratio)
            parts["brake"] = departure({name: value[region] for name, value in maps.items()}, before)
        parts["loss"] = parts["loss"] + self.settings.brake * parts["brake"]
        return parts

    def loss_of(self, out: dict[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The head's loss of its maps."""
        return self._loss(out, batch["box"], batch["present"])

    def _original(self) -> OSTrack:
        # Fresh weights take random numbers: a run that resumes, and builds them later, draws the same.
        with torch.random.fork_rng(devices=[]):
            model = OSTrack(self.recipe)
        load_weights(model, read_checkpoint(Path(self.settings.original)).weights)
        return model.eval()

    def distillation(self, model: PlainForm, channels: int) -> nn.Module:
        """`Distillation` of the encoder's tokens."""
        assert isinstance(model, OSTrack)
        return Distillation(model, channels)

    def finished(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The averaged weights themselves."""
        return dict(weights)

    def at(self, step: int) -> Recipe:
        """While the keep ratio's warm-up lasts, the recipe has the ratio of that step: the network has not
        learnt to do without the other candidates yet."""
        return replace(self.recipe, keep_ratio=self._ratios(step))

    def _ratios(self, step: int) -> tuple[float, ...]:
        start, warm = self.settings.ce_start, self.settings.ce_warm
        return tuple(keep_ratio_at(step, ratio, start, warm) for ratio in self.recipe.keep_ratio)


class Distillation(nn.Module):
    """Pulls the encoder's tokens before block `layer`, or before the first elimination, towards a teacher's
    features of the same grid.

    Each token's linear image is compared with the teacher's feature: 1 - cosine plus half the mean square.
    """

    def __init__(self, model: OSTrack, channels: int, layer: int = 2) -> None:
        super().__init__()
        self.projection = nn.Linear(model.recipe.dim, channels)
        self._seen: Tensor | None = None
        blocks = model.backbone.blocks
        # Not after an elimination: the tokens would be fewer, and in another order than the teacher's.
        block = blocks[min(layer, len(blocks) - 1, *model.recipe.ce_layers)]
        assert isinstance(block, Block)
        block.norm1.register_forward_pre_hook(self._listen)

    def _listen(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self._seen = inputs[0]

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """template: B×Nz×C, search: B×n²×C teacher features of the batch that the model has just seen."""
        wanted = torch.cat((template, search), dim=1)
        assert self._seen is not None
        given = self.projection(self._seen[:, -wanted.shape[1] :])
        cosine = nn.functional.cosine_similarity(given, wanted, dim=2).mean()
        return 1 - cosine + 0.5 * nn.functional.mse_loss(given, wanted)


def jitter(box: Box, factor: float, rng: np.random.Generator, share: float = 1.0) -> Box:
    """OSTrack's search jitter: what the tracker believes before it sees the frame.

    The shift shrinks with the search factor, so that as many targets stay in the crop as at factor 4.
    share: of the whole jitter; a steady tracker is never as wrong as OSTrack's jitter makes it.
    """
    x, y, w, h = box
    reach = share * CENTRE_JITTER * factor / 4 * math.sqrt(w * h)
    cx, cy = x + w / 2 + reach * (rng.random() - 0.5), y + h / 2 + reach * (rng.random() - 0.5)
    w *= math.exp(share * SCALE_JITTER * rng.standard_normal())
    h *= math.exp(share * SCALE_JITTER * rng.standard_normal())
    return cx - w / 2, cy - h / 2, w, h


def _check_range(name: str, value: float, high: float) -> None:
    if not 0 <= value <= high:
        limits = "at least 0" if math.isinf(high) else f"between 0 and {high:g}"
        raise UserError(f"{name} {value} has to be {limits}")
