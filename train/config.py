"""What a training run is: one YAML file under `configs/`, read into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from jntrt.export.recipe import Recipe
from jntrt.runtime.errors import UserError

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainConfig:
    """A run. Lengths are optimiser steps; shares and ratios lie in 0 … 1.

    batch: pairs per step over all processes; lr: of the new parts, times `backbone_lr` for the encoder;
    decay: "step" (× 0.1 at `decay_from` × steps) or "linear" (to zero from there on); ce_start, ce_warm: the
    warm-up of the keep ratio; positive: ρ; synthetic: share of rendered scenes where there are videos too;
    steady: share of pairs with two fifths of OSTrack's jitter;
    teacher: weight of the feature distillation at the start, falling to zero at step `teacher_until`;
    start: "principal" (`train.initialise`), "plain" (random), or a checkpoint's path for the encoder.
    """

    name: str
    recipe: Recipe
    steps: int
    batch: int = 32
    lr: float = 1e-3
    backbone_lr: float = 1.0
    weight_decay: float = 1e-4
    warmup: int = 0
    decay: str = "step"
    decay_from: float = 0.9
    clip: float = 0.1
    ema: float = 0.0
    drop_path: float = 0.0
    ce_start: int = 0
    ce_warm: int = 0
    positive: float = 0.7
    synthetic: float = 0.7
    steady: float = 0.0
    teacher: float = 0.0
    teacher_until: int = 0
    start: str = "plain"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.decay not in ("step", "linear"):
            raise UserError(f"{self.name}: decay {self.decay!r} is unknown; it is step or linear")
        if self.steps < 1 or self.batch < 1:
            raise UserError(f"{self.name}: steps and batch must be at least 1")
        if not 0 < self.positive <= 1:
            raise UserError(
                f"{self.name}: positive is the share of pairs with a target, above 0 and at most 1"
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self) | {"recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> TrainConfig:
        """The reverse of `to_dict`; UserError (beginning with `where`) for unknown or missing keys."""
        unknown = sorted(values.keys() - {f.name for f in fields(cls)})
        if unknown:
            raise UserError(f"{where}: unknown keys {', '.join(unknown)}")
        if not isinstance(values.get("recipe"), Mapping):
            raise UserError(f"{where}: the key recipe (sizes of the network) is missing")
        try:
            return cls(**{**values, "recipe": Recipe.from_dict(values["recipe"])})
        except TypeError as error:
            raise UserError(f"{where}: {error}") from None


def load_config(name: str) -> TrainConfig:
    """The packaged configuration called `name`, or the YAML file of that path."""
    import yaml

    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise UserError(f"--config {name}: no such configuration; there are {known}, or give a YAML file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: not a mapping of keys to values")
    return TrainConfig.from_dict({"name": path.stem, **values}, str(path))


def with_overrides(config: TrainConfig, **changes: Any) -> TrainConfig:
    """`config` with those of `changes` that are not None."""
    return replace(config, **{key: value for key, value in changes.items() if value is not None})
