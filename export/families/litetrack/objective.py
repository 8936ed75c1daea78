"""What LiteTrack is trained for: OSTrack's sampling and losses (`contract.Objective`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from jntrt.export.families.contract import Box
from jntrt.export.families.litetrack.plain import LiteTrack
from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.export.families.ostrack import objective as ostrack
from jntrt.export.families.plain import PlainForm
from jntrt.runtime.errors import UserError

FINE_TUNING = None


@dataclass(frozen=True)
class Settings:
    """What a configuration may say of this family's training; each as OSTrack's."""

    backbone_lr: float = 1.0
    drop_path: float = 0.0
    steady: float = 0.0

    def __post_init__(self) -> None:
        _ = self.ostrack  # checks them

    @property
    def ostrack(self) -> ostrack.Settings:
        """The same for OSTrack."""
        return ostrack.Settings(self.backbone_lr, self.drop_path, steady=self.steady)


class Objective:
    """OSTrack's objective of the one-stream tracker of the same crops, blocks and head, for LiteTrack."""

    parts = ("l1", "giou", "focal", "focal-")

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self.recipe, self.settings = recipe, settings
        self._ostrack = ostrack.Objective(recipe.one_stream, settings.ostrack)

    def network(self) -> LiteTrack:
        """The plain form with drop-path."""
        return LiteTrack(self.recipe, self.settings.drop_path)

    def initialise(
        self, model: PlainForm, start: str, photos: list[NDArray[np.uint8]] | None, seed: int
    ) -> None:
        """As OSTrack's; of an encoder's file the first blocks are taken."""
        self._ostrack.initialise(model, start, photos, seed)

    def optimised(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """As OSTrack's."""
        return self._ostrack.optimised(name, parameter)

    def jitter(self, box: Box, rng: np.random.Generator) -> Box:
        """As OSTrack's."""
        return self._ostrack.jitter(box, rng)

    def side_inputs(self, box: Box) -> dict[str, NDArray[Any]]:
        """`target_box`, where there is a target token."""
        return self._ostrack.side_inputs(box)

    def mirrored(self, side_inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The same: the target's box is about its centre."""
        return side_inputs

    def loss(self, network: Any, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """OSTrack's loss of the centre head."""
        crops = [network.normalise(batch[name]) for name in ("template", "search")]
        return self._ostrack.loss_of(network(*crops, batch.get("target_box")), batch)

    def distillation(self, model: PlainForm, channels: int) -> nn.Module:
        """UserError: template and search tokens are never one sequence here."""
        raise UserError("LiteTrack has no distillation: leave teacher out")

    def finished(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The averaged weights themselves."""
        return dict(weights)

    def at(self, step: int) -> Recipe:
        """The recipe: nothing warms up."""
        return self.recipe
