"""OSTrack-style experiment files: their keys ↔ the recipe, in this one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jntrt.export.experiment_yaml import ExperimentYaml, as_float
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.errors import UserError

_TEMPLATE_RANGES = {"CTR_POINT": "center", "CTR_REC": "rect", "GT_BOX": "box", "ALL": "all"}
_HEADS = {"CENTER": "center", "CORNER": "corner", "DISTRIBUTION": "distribution", "DIST": "distribution"}
# Where the official file says what the weights show as well.
_KEYS = {
    "template_size": ("DATA.TEMPLATE.SIZE", "TEST.TEMPLATE_SIZE"),
    "search_size": ("DATA.SEARCH.SIZE", "TEST.SEARCH_SIZE"),
    "dim": ("MODEL.BACKBONE.EMBED_DIM",),
    "depth": ("MODEL.BACKBONE.DEPTH",),
    "patch": ("MODEL.BACKBONE.STRIDE",),
}


@dataclass(frozen=True)
class RecipeYaml(ExperimentYaml):
    """An experiment file under OSTrack's keys."""

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
    def heads(self) -> int | None:
        """Attention heads."""
        value = self.number("MODEL.BACKBONE.NUM_HEADS")
        if value is not None and (value < 1 or value != int(value)):
            raise UserError(f"{self.name}: MODEL.BACKBONE.NUM_HEADS is {value:g}, not a whole number")
        return None if value is None else int(value)

    @property
    def template_factor(self) -> float | None:
        """Template crop side / sqrt(box area)."""
        return as_float(self.number("DATA.TEMPLATE.FACTOR", "TEST.TEMPLATE_FACTOR"))

    @property
    def search_factor(self) -> float | None:
        """Search crop side / sqrt(box area)."""
        return as_float(self.number("DATA.SEARCH.FACTOR", "TEST.SEARCH_FACTOR"))

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


def recipe_yaml(config: ExperimentYaml) -> RecipeYaml:
    """The file under OSTrack's keys. Raises `UserError` where it has none of them, or another mean or std."""
    known = {"DATA", "MODEL", "TEST", "family", "PRESENCE_THRESHOLD", "LICENSE", "TRAINED"}
    if not known & config.values.keys():
        raise UserError(f"{config.name}: none of {', '.join(sorted(known))} in it; is it a recipe?")
    for wanted, key in ((0.485, 0.456, 0.406), "MEAN"), ((0.229, 0.224, 0.225), "STD"):
        said = config.numbers(f"DATA.{key}")
        if said is not None and said != wanted:
            raise UserError(f"{config.name}: DATA.{key} is not ImageNet's, which the graphs have inside")
    for key in ("DATA.SEARCH.GRID.USE_GRID", "TEST.SEARCH.USE_GRID"):
        if config.get(key):
            raise UserError(
                f"{config.name}: {key} asks for ZoomTrack's crop, a grid that is solved for every box; crops "
                "here are squares, and with them its weights would only make a weaker tracker"
            )
    return RecipeYaml(config.name, config.values)


def recipe_table(recipe: Recipe) -> dict[str, Any]:
    """The recipe under OSTrack's keys, as `RecipeYaml` reads it."""
    ranges, heads = ({ours: key for key, ours in words.items()} for words in (_TEMPLATE_RANGES, _HEADS))
    backbone: dict[str, Any] = {
        "STRIDE": recipe.patch,
        "EMBED_DIM": recipe.dim,
        "DEPTH": recipe.depth,
        "NUM_HEADS": recipe.heads,
        "CE_LOC": list(recipe.ce_layers),
        "CE_KEEP_RATIO": list(recipe.keep_ratio),
        "CE_TEMPLATE_RANGE": ranges[recipe.template_tokens],
    }
    return {
        "family": recipe.family,
        "DATA": {
            "SEARCH": {"FACTOR": recipe.search_factor, "SIZE": recipe.search_size},
            "TEMPLATE": {"FACTOR": recipe.template_factor, "SIZE": recipe.template_size},
        },
        "MODEL": {
            "TARGET_BOX_FORMAT": recipe.target_box_format,
            "BACKBONE": backbone,
            "HEAD": {"TYPE": heads[recipe.head], "NUM_CHANNELS": recipe.head_channels},
        },
    }
