"""Experiment files (`--config`): YAML from outside, read, bounded, and asked by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jntrt.runtime.errors import UserError

MAX_YAML_BYTES = 1 << 20


@dataclass(frozen=True)
class ExperimentYaml:
    """An experiment file's values; None where it says nothing. `name` is how messages call the file.

    A family derives its own from it, which knows the keys of that family's files.
    """

    name: str
    values: Mapping[str, Any]

    def get(self, key: str) -> Any:
        """The value at `A.B.C`, None where there is none."""
        node: Any = self.values
        for part in key.split("."):
            if not isinstance(node, Mapping):
                raise UserError(f"{self.name}: {key} cannot be read, {part} lies in no table")
            node = node.get(part)
            if node is None:
                return None
        return node

    def number(self, *keys: str) -> float | None:
        """The number that all of `keys` agree on."""
        found: dict[str, float] = {}
        for key in keys:
            value = self.get(key)
            if value is None:
                continue
            if not _is_number(value):
                raise UserError(f"{self.name}: {key} is {value!r:.40}, not a number")
            found[key] = value
        if len(set(found.values())) > 1:
            told = " and ".join(f"{key} {value:g}" for key, value in found.items())
            raise UserError(f"{self.name}: {told} disagree; make them equal")
        return next(iter(found.values()), None)

    def text(self, key: str) -> str | None:
        """The text at `key`."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{self.name}: {key} is {value!r:.40}, not text")
        return value

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """The list of numbers at `key`."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(map(_is_number, value)):
            raise UserError(f"{self.name}: {key} is {value!r:.40}, not a list of numbers")
        return tuple(value)

    def choice(self, key: str, choices: Mapping[str, str]) -> str | None:
        """Our word for the official one at `key`."""
        value = self.text(key)
        if value is None:
            return None
        if value.upper() not in choices:
            raise UserError(f"{self.name}: {key} is {value!r:.40}; it is one of {', '.join(choices)}")
        return choices[value.upper()]

    @property
    def family(self) -> str | None:
        """`family`, a key of ours."""
        return self.text("family")

    @property
    def presence_threshold(self) -> float | None:
        """The score under which a target counts as lost."""
        return as_float(self.number("PRESENCE_THRESHOLD"))

    @property
    def license(self) -> str | None:
        """The weights' licence."""
        return self.text("LICENSE")

    @property
    def trained(self) -> str | None:
        """ "yes", "no" or "unknown"; YAML's own yes and true are booleans."""
        value = self.get("TRAINED")
        if isinstance(value, bool):
            return "yes" if value else "no"
        return self.text("TRAINED")


def read_experiment_yaml(path: str | Path) -> ExperimentYaml:
    """The experiment file at `path`. Raises `UserError` for a file that is missing, no YAML or no table."""
    return ExperimentYaml(Path(path).name, read_table(Path(path), "--config"))


def read_table(path: Path, flag: str) -> dict[str, Any]:
    """The table in the YAML file that was given by `flag`; UserError for anything else."""
    import yaml

    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise UserError(f"{flag} {path}: larger than 1 MB, so no recipe")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{flag} {path}: no YAML: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(values, dict):
        raise UserError(f"{flag} {path}: no table in it")
    return values


def _is_number(value: object) -> bool:
    """A number of ordinary size; YAML also has .nan, .inf and whole numbers of any length."""
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < 1e9


def as_float(value: float | None) -> float | None:
    """The number as a float, None where there is none."""
    return None if value is None else float(value)
