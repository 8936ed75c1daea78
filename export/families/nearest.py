"""Which families' networks come nearest to weights that no family recognises, and what they lack.

It builds networks: import this only to explain a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from jntrt.export.families.contract import Family

SHOWN = 3  # names of what is missing


@dataclass(frozen=True)
class Nearness:
    """What one family's network has of names, numbers in them left out, and which of them are missing."""

    family: str
    names: int
    missing: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of its names, how many are missing."""
        return len(self.missing) / self.names

    def __str__(self) -> str:
        shown = ", ".join(self.missing[:SHOWN]) + (", …" if len(self.missing) > SHOWN else "")
        return f"{self.family} lacks {len(self.missing)} of {self.names} names ({shown})"


def nearest(weights: Iterable[str], kinds: Mapping[str, Family], count: int = 3) -> list[Nearness]:
    """The `count` nearest families, each by its nearest network; none that has no name in common."""
    given = {_pattern(name) for name in weights}
    found = [min((_nearness(*n, given) for n in _networks(*k)), key=lambda n: n.share) for k in kinds.items()]
    return sorted((n for n in found if n.share < 1), key=lambda n: n.share)[:count]


def _networks(name: str, kind: Family) -> list[tuple[str, set[str]]]:
    """The names in the weights of each network that benches know of the family."""
    with torch.device("meta"):
        models = [kind.plain(recipe) for recipe in kind.NETWORKS.values()]
    return [
        (name, {_pattern(key) for key in model.state_dict() if not key.endswith("num_batches_tracked")})
        for model in models
    ]


def _nearness(name: str, names: set[str], given: set[str]) -> Nearness:
    return Nearness(name, len(names), tuple(sorted(names - given)))


def _pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "N", name)
