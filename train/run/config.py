"""What a training run is: one YAML file under `configs/`, read into a frozen dataclass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"

# Smallest and largest value of the numbers.
_LIMITS = {
    "steps": (1, math.inf),
    "batch": (1, math.inf),
    "lr": (1e-12, math.inf),
    "backbone_lr": (0, math.inf),
    "beta2": (0, 0.9999),
    "weight_decay": (0, math.inf),
    "warmup": (0, math.inf),
    "decay_from": (0, 1),
    "clip": (1e-12, math.inf),
    "ema": (0, 1),
    "drop_path": (0, 0.99),
    "ce_start": (0, math.inf),
    "ce_warm": (0, math.inf),
    "positive": (1e-3, 1),
    "synthetic": (0, 1),
    "steady": (0, 1),
    "teacher": (0, math.inf),
    "teacher_until": (0, math.inf),
    "seed": (0, math.inf),
}


@dataclass(frozen=True)
class TrainConfig:
    """A run. Lengths are optimiser steps; shares and ratios lie in 0 … 1.

    batch: pairs per step over all processes; lr: of the new parts, times `backbone_lr` for the encoder;
    beta2: AdamW's, 0.999 in the papers' code;
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
    beta2: float = 0.98
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
        _check_types(self)
        _check_types(self.recipe)
        if self.decay not in ("step", "linear"):
            raise UserError(f"decay {self.decay!r} is unknown; it is step or linear")
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                limits = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
                raise UserError(f"{name} {getattr(self, name)} has to be {limits}")
        recipe = self.recipe
        if min(recipe.dim, recipe.depth, recipe.mlp_dim) < 1 or recipe.head_channels < 8:
            raise UserError("dim, depth and mlp_dim have to be at least 1, head_channels at least 8")
        if recipe.head == "distribution" and (recipe.bins < 4 or recipe.quality_dim < 1):
            raise UserError("the distribution head needs bins (17 in the paper) and quality_dim (64)")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self) | {"recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> TrainConfig:
        """The reverse of `to_dict`; UserError (beginning with `where`) for unknown, missing or odd keys."""
        recipe = values.get("recipe")
        if not isinstance(recipe, Mapping):
            raise UserError(f"{where}: the key recipe (sizes of the network) is missing")
        for kind, given in ((cls, values), (Recipe, recipe)):
            unknown = sorted(str(key) for key in given.keys() - {f.name for f in fields(kind)})
            if unknown:
                raise UserError(f"{where}: unknown keys {', '.join(unknown)}")
        try:
            return cls(**{**values, "recipe": Recipe.from_dict(recipe)})
        except (TypeError, UserError) as error:
            raise UserError(f"{where}: {error}") from None


def _check_types(config: TrainConfig | Recipe) -> None:
    """UserError where a value that came from YAML is not what its field says."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type == "int" and type(value) is not int:
            raise UserError(f"{field.name} {value!r} is not a whole number")
        if field.type == "float" and not (type(value) in (int, float) and math.isfinite(value)):
            hint = " (in YAML 1e-3 is text: write 1.0e-3)" if isinstance(value, str) else ""
            raise UserError(f"{field.name} {value!r} is not a number{hint}")
        if field.type == "tuple[int, ...]" and not all(type(number) is int for number in value):
            raise UserError(f"{field.name} {list(value)} are not whole numbers")
        if field.type == "str" and not isinstance(value, str):
            raise UserError(f"{field.name} {value!r} is not text")


def load_config(name: str) -> TrainConfig:
    """The packaged configuration called `name`, or the YAML file of that path."""
    import yaml

    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise UserError(f"--config {name}: no such configuration; there are {known}, or give a YAML file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: not a mapping of keys to values")
    return TrainConfig.from_dict({"name": path.stem, **values}, str(path))


def with_overrides(config: TrainConfig, **changes: Any) -> TrainConfig:
    """`config` with those of `changes` that are not None; UserError as for a file."""
    return replace(config, **{key: value for key, value in changes.items() if value is not None})
