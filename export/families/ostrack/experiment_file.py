"""OSTrack-style experiment files (`--config`) and key maps: read, bounded, and asked by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jntrt.export.bounded_yaml import read_table
from jntrt.runtime.errors import UserError

MAX_STARS = 4  # in a name of a key map: each multiplies the ways in which a name may match

_TEMPLATE_RANGES = {"CTR_POINT": "center", "CTR_REC": "rect", "GT_BOX": "box", "ALL": "all"}
_HEADS = {"CENTER": "center", "CORNER": "corner", "DIST": "distribution", "DISTRIBUTION": "distribution"}
# Where the official file says what the weights show as well.
_KEYS = {
    "template_size": ("DATA.TEMPLATE.SIZE", "TEST.TEMPLATE_SIZE"),
    "search_size": ("DATA.SEARCH.SIZE", "TEST.SEARCH_SIZE"),
    "dim": ("MODEL.BACKBONE.EMBED_DIM",),
    "depth": ("MODEL.BACKBONE.DEPTH",),
    "patch": ("MODEL.BACKBONE.STRIDE",),
}


@dataclass(frozen=True)
class RecipeYaml:
    """An experiment file's values; None where it says nothing. `name` is how messages call the file."""

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

    def agree(self, what: str, shown: Any) -> None:
        """Raises `UserError` where the file says something else than the weights show."""
        said: Any = None
        if what == "head":
            said = self.choice("MODEL.HEAD.TYPE", _HEADS)
        elif what == "head_channels":
            # The corner head's channels are elsewhere (MODEL.NUM_CHANNELS) and often left at their default.
            if self.choice("MODEL.HEAD.TYPE", _HEADS) not in (None, "corner"):
                said = self.number("MODEL.HEAD.NUM_CHANNELS")
        elif what in _KEYS:
            said = self.number(*_KEYS[what])
        if said is not None and said != shown:
            raise UserError(
                f"{self.name}: says {what.replace('_', ' ')} {said}, the weights show {shown}; "
                "give the file that belongs to this checkpoint"
            )

    @property
    def family(self) -> str | None:
        """`family`, a key of ours."""
        return self.text("family")

    @property
    def heads(self) -> int | None:
        """Attention heads."""
        value = self.number("MODEL.BACKBONE.NUM_HEADS")
        if value is not None and (value < 1 or value != int(value)):
            raise UserError(f"{self.name}: MODEL.BACKBONE.NUM_HEADS is {value:g}, not a whole number")
        return None if value is None else int(value)

    @property
    def template_factor(self) -> float | None:
        """Template crop side / sqrt(box area)."""
        return _float(self.number("DATA.TEMPLATE.FACTOR", "TEST.TEMPLATE_FACTOR"))

    @property
    def search_factor(self) -> float | None:
        """Search crop side / sqrt(box area)."""
        return _float(self.number("DATA.SEARCH.FACTOR", "TEST.SEARCH_FACTOR"))

    @property
    def target_box_format(self) -> str | None:
        """How the target token's box is written."""
        return self.text("MODEL.TARGET_BOX_FORMAT")

    @property
    def keep_ratio(self) -> tuple[float, ...] | None:
        """One ratio for each eliminating block."""
        return self.numbers("MODEL.BACKBONE.CE_KEEP_RATIO")

    @property
    def template_tokens(self) -> str | None:
        """The template rows that rank the search tokens."""
        return self.choice("MODEL.BACKBONE.CE_TEMPLATE_RANGE", _TEMPLATE_RANGES)

    def ce_layers(self) -> tuple[int, ...] | None:
        """The eliminating blocks, () for none, None where the file does not say."""
        kind = self.text("MODEL.BACKBONE.TYPE")
        layers = self.numbers("MODEL.BACKBONE.CE_LOC")
        if layers is not None and any(layer != int(layer) for layer in layers):
            raise UserError(f"{self.name}: MODEL.BACKBONE.CE_LOC is not a list of whole numbers")
        if kind is None:
            return None if layers is None else tuple(map(int, layers))
        with_ce = "_ce" in kind
        if with_ce and layers is None:
            raise UserError(
                f"{self.name}: TYPE {kind} eliminates and no CE_LOC says where: say --ce-layers 3,6,9"
            )
        if not with_ce and layers:
            raise UserError(
                f"{self.name}: CE_LOC is given but TYPE {kind} has no _ce: say --ce-layers 3,6,9 or none"
            )
        return tuple(map(int, layers or ()))

    @property
    def presence_threshold(self) -> float | None:
        """The score under which a target counts as lost."""
        return _float(self.number("PRESENCE_THRESHOLD"))

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


def read_recipe_yaml(path: str | Path) -> RecipeYaml:
    """The experiment file at `path`. Raises `UserError` for a file that is missing, no YAML or no table."""
    values = read_table(Path(path), "--config")
    known = {"DATA", "MODEL", "TEST", "family", "PRESENCE_THRESHOLD", "LICENSE", "TRAINED"}
    if not known & values.keys():
        raise UserError(f"--config {path}: none of {', '.join(sorted(known))} in it; is it a recipe?")
    config = RecipeYaml(Path(path).name, values)
    for wanted in ((0.485, 0.456, 0.406), "MEAN"), ((0.229, 0.224, 0.225), "STD"):
        said = config.numbers(f"DATA.{wanted[1]}")
        if said is not None and said != wanted[0]:
            raise UserError(
                f"{config.name}: DATA.{wanted[1]} is not ImageNet's, which the graphs have inside"
            )
    return config


def read_key_map(path: str | Path) -> dict[str, str]:
    """The renamings (from → to) of a YAML file. Raises `UserError`."""
    values = read_table(Path(path), "--key-map")
    if not values or not all(isinstance(k, str) and isinstance(v, str) for k, v in values.items()):
        raise UserError(f"--key-map {path}: needs lines of the form old.name: new.name")
    for old in values:
        if old.count("*") > MAX_STARS:
            raise UserError(f"--key-map {path}: {old!r:.80} has more than {MAX_STARS} *")
    return values


def _is_number(value: object) -> bool:
    """A number of ordinary size; YAML also has .nan, .inf and whole numbers of any length."""
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < 1e9


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
