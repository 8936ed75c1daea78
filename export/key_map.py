"""Key maps (`--key-map`): weights under other names than the released ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from jntrt.export.bounded_yaml import read_table
from jntrt.runtime.errors import UserError

Weights = Mapping[str, NDArray[Any]]

MAX_STARS = 4  # in a name of a key map: each multiplies the ways in which a name may match


def read_key_map(path: str | Path) -> dict[str, str]:
    """The renamings (from → to) of a YAML file. Raises `UserError`."""
    values = read_table(Path(path), "--key-map")
    if not values or not all(isinstance(k, str) and isinstance(v, str) for k, v in values.items()):
        raise UserError(f"--key-map {path}: needs lines of the form old.name: new.name")
    for old in values:
        if old.count("*") > MAX_STARS:
            raise UserError(f"--key-map {path}: {old!r:.80} has more than {MAX_STARS} *")
    return values


def rename(weights: Weights, key_map: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """The weights under the names that `key_map` (from → to, `*` for any text) gives; others keep theirs.

    The first entry that matches a name renames it; the n-th `*` of its right side stands for what the n-th of
    its left side met. Raises `UserError` for an entry that matches nothing, and for two weights of one name.
    """
    rules = []
    for old, new in key_map.items():
        if new.count("*") > old.count("*"):
            raise UserError(f"--key-map: {new!r} has more * than {old!r}")
        rules.append((re.compile("(.*?)".join(map(re.escape, old.split("*")))), old, new))
    used: set[str] = set()
    renamed: dict[str, NDArray[Any]] = {}
    for name, array in weights.items():
        target = name
        for pattern, old, new in rules:
            if match := pattern.fullmatch(name):
                used.add(old)
                parts = new.split("*")
                target = parts[0] + "".join(a + b for a, b in zip(match.groups(), parts[1:], strict=False))
                break
        if target in renamed:
            raise UserError(f"--key-map: two weights would be called {target!r}")
        renamed[target] = array
    for old in key_map:
        if old not in used:
            raise UserError(f"--key-map: {old!r} matches no weight of the checkpoint")
    return renamed
