"""What a training run is: one YAML file under `configs/`, read into a frozen dataclass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from jntrt.export.bounded_yaml import read_table
from jntrt.export.families import family, folder_name, objective
from jntrt.export.families.contract import Objective
from jntrt.runtime.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"

# Smallest and largest value of the numbers.
_LIMITS = {
    "steps": (1, math.inf),
    "batch": (1, math.inf),
    "lr": (1e-12, math.inf),
    "beta2": (0, 0.9999),
    "weight_decay": (0, math.inf),
    "warmup": (0, math.inf),
    "decay_from": (0, 1),
    "clip": (1e-12, math.inf),
    "ema": (0, 1),
    "positive": (1e-3, 1),
    "synthetic": (0, 1),
    "teacher": (0, math.inf),
    "teacher_until": (0, math.inf),
    "held_out": (0, math.inf),
    "seed": (0, math.inf),
}


@dataclass(frozen=True)
class TrainConfig:
    """A run. Lengths are optimiser steps; shares and ratios lie in 0 … 1.

    family, recipe: of the network; settings: what the family's objective wants to know beside (its
    `Settings`; in a file they stand among the other keys).
    batch: pairs per step over all processes; lr: of the new parts; beta2: AdamW's, 0.999 in the papers' code;
    decay: "step" (× 0.1 at `decay_from` × steps) or "linear" (to zero from there on);
    positive: ρ; synthetic: share of rendered scenes where there are videos too;
    held_out: sequences in a row of which every fifth row is not trained on (0: all are);
    teacher: weight of the feature distillation at the start, falling to zero at step `teacher_until`;
    start: the first weights, "plain" (random) or what else the family's objective knows.
    """

    name: str
    family: str
    recipe: Any
    settings: Any
    steps: int
    batch: int = 32
    lr: float = 1e-3
    beta2: float = 0.98
    weight_decay: float = 1e-4
    warmup: int = 0
    decay: str = "step"
    decay_from: float = 0.9
    clip: float = 0.1
    ema: float = 0.0
    positive: float = 0.7
    synthetic: float = 0.7
    teacher: float = 0.0
    teacher_until: int = 0
    start: str = "plain"
    held_out: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for checked in (self, self.recipe, self.settings):
            _check_types(type(checked), vars(checked))
        if self.decay not in ("step", "linear"):
            raise UserError(f"decay {self.decay!r} is unknown; it is step or linear")
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                limits = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
                raise UserError(f"{name} {getattr(self, name)} has to be {limits}")
        self.objective()

    def objective(self) -> Objective:
        """What the network is trained for."""
        return objective(self.family).Objective(self.recipe, self.settings)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types, the family's settings among them."""
        own = {key: value for key, value in vars(self).items() if key != "settings"}
        return own | asdict(self.settings) | {"recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> TrainConfig:
        """The reverse of `to_dict`; UserError (beginning with `where`) for unknown, missing or odd keys.

        Without `family` at the top it is the recipe's: files of before there were several say it there.
        """
        recipe = values.get("recipe")
        if not isinstance(recipe, Mapping):
            raise UserError(f"{where}: the key recipe (sizes of the network) is missing")
        name = values.get("family", recipe.get("family"))
        if not isinstance(name, str):
            raise UserError(f"{where}: the key family is missing: say what kind of tracker it is")
        try:
            kind, settings = family(name), objective(name).Settings
            own = values.keys() & {f.name for f in fields(cls)} - {"settings"}
            for known, given in ((settings, values.keys() - own), (kind.Recipe, recipe.keys())):
                unknown = sorted(str(key) for key in given - {f.name for f in fields(known)})
                if unknown:
                    raise UserError(f"unknown keys {', '.join(unknown)}")
            taken = {key: values[key] for key in own}
            extra = {key: values[key] for key in values.keys() - own}
            _check_types(settings, extra)
            taken |= {
                "family": folder_name(name),
                "settings": settings(**extra),
                "recipe": kind.Recipe.from_dict(recipe),
            }
            return cls(**taken)
        except (TypeError, UserError) as error:
            raise UserError(f"{where}: {error}") from None


def _check_types(kind: type[Any], values: Mapping[str, Any]) -> None:
    """UserError where a value that came from YAML is not what its field says."""
    for field in fields(kind):
        if field.name not in values:
            continue
        value = values[field.name]
        if field.type == "int" and type(value) is not int:
            raise UserError(f"{field.name} {value!r} is not a whole number")
        if field.type == "float" and not (type(value) in (int, float) and math.isfinite(value)):
            raise UserError(f"{field.name} {value!r} is not a number")
        if field.type == "tuple[int, ...]" and not all(type(number) is int for number in value):
            raise UserError(f"{field.name} {list(value)} are not whole numbers")
        if field.type == "str" and not isinstance(value, str):
            raise UserError(f"{field.name} {value!r} is not text")


def load_config(name: str) -> TrainConfig:
    """The packaged configuration called `name`, or the YAML file of that path."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise UserError(f"--config {name}: no such configuration; there are {known}, or give a YAML file")
    return TrainConfig.from_dict({"name": path.stem, **read_table(path, "--config")}, str(path))


def with_overrides(config: TrainConfig, **changes: Any) -> TrainConfig:
    """`config` with those of `changes` that are not None; UserError as for a file."""
    return replace(config, **{key: value for key, value in changes.items() if value is not None})
