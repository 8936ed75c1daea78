"""How a family's recipe has its crops cut and its state kept, as the runtime reads it from a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jntrt.export.families.contract import Family
from jntrt.runtime.bundle.conventions import (
    CropSpec,
    StateInput,
    StateSpec,
    crop_spec,
    state_inputs,
    state_spec,
)
from jntrt.runtime.bundle.manifest import Reader


@dataclass(frozen=True)
class Conventions:
    """A manifest's conventions: both crops, the state, and the track graph's inputs that come from it."""

    template: CropSpec
    search: CropSpec
    state: StateSpec
    state_inputs: Mapping[str, StateInput]


def conventions_of(family: Family, recipe: Any) -> Conventions:
    """Of a recipe's networks. UserError for a convention that the runtime does not know."""
    entries = Reader(family.conventions(recipe), "conventions")
    template, search = (crop_spec(entries.section(name)) for name in ("template", "search"))
    return Conventions(template, search, state_spec(entries), state_inputs(entries))
