"""What a LiteTrack checkpoint's network is: read from weights, recipe name, YAML and flags.

Weights show neither the heads nor how many of the last blocks are interaction layers: that comes from
`--ai-layers`, else the YAML's AI_LAYERS, else the official recipe name; otherwise the command stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jntrt.export.families.inference import Inference, Inferred, flag
from jntrt.export.families.litetrack.published import AI_LAYERS, CROPS, published_sizes
from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.export.families.ostrack.experiment_file import RecipeYaml
from jntrt.export.families.ostrack.flags import OneStreamFlags
from jntrt.export.families.ostrack.infer import KNOWN_HEADS
from jntrt.export.families.ostrack.shown import shown_by
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.export.families.contract import Weights

_RECIPE_NAME = re.compile(r"B(\d{1,2})_cae_center(_[\w.+-]+)?")


@dataclass(frozen=True)
class Flags(OneStreamFlags):
    """Flags of `export-jn`; None where nothing was said."""

    ai_layers: int | None = flag(
        "How many of the last blocks are LiteTrack's interaction layers. Published: 3, of 4 blocks 2.", "N"
    )


def recognise(weights: Weights) -> str | None:
    """CAE's blocks and OSTrack's head as JN's, without the norm between them."""
    if (
        "backbone.blocks.0.attn.q_bias" in weights
        and "backbone.blocks.0.gamma_1" in weights
        and "box_head.conv1_ctr.0.weight" in weights
        and not any(name.startswith("backbone.norm.") for name in weights)
    ):
        return "CAE's blocks and box_head, no backbone.norm"
    return None


def infer_recipe(
    weights: Weights, flags: Flags, config: RecipeYaml, names: Iterable[tuple[str, str]]
) -> Inferred:
    """The recipe of `weights`; `names`: candidates for the official recipe name, with where each was found.

    Raises `UserError` where the sources disagree, and where something is in none of them; it names the flag.
    """
    found = Inference(flags, config)
    shown = shown_by(weights)
    _check_parts(shown)
    for key, value in shown.items():
        config.agree(key, value)
    token = config.get("MODEL.USE_CLS_TOKEN")
    if token is not None and token != bool(shown["target_hidden"]):
        raise UserError(
            f"{config.name}: MODEL.USE_CLS_TOKEN is {token!r:.40}, the weights show "
            f"{'a' if shown['target_hidden'] else 'no'} target token; "
            "give the file that belongs to this checkpoint"
        )
    shown = {key: value for key, value in shown.items() if key not in ("qkv", "layer_scale", "head")}
    for key, value in shown.items():
        found.row(key, value, "weights")
    crops = CROPS if published_sizes(shown) else {}
    said = {
        "ai_layers": found.choose("ai_layers", _configured(config), *_named(shown["depth"], names)),
        "heads": found.choose(
            "heads", config.heads, KNOWN_HEADS.get(shown["dim"]), f"width {shown['dim']}, 64 a head"
        ),
        **{
            what: found.choose(what, getattr(config, what), crops.get(what), "published at 256")
            for what in ("template_factor", "search_factor")
        },
    }
    found.complete()
    return found.inferred(Recipe(**shown, **said))


def _check_parts(shown: dict[str, Any]) -> None:
    """Raises `UserError` for weights that `--family litetrack` was said of and that are none."""
    if (shown["qkv"], shown["layer_scale"], shown["head"]) != ("qv", True, "center"):
        raise UserError(
            "no LiteTrack: its blocks have q_bias, v_bias, gamma_1 and gamma_2, its head is conv1_ctr; "
            "leave --family out"
        )


def _configured(config: RecipeYaml) -> int | None:
    """AI_LAYERS of the experiment file."""
    value = config.number("MODEL.BACKBONE.AI_LAYERS")
    if value is not None and value != int(value):
        raise UserError(f"{config.name}: MODEL.BACKBONE.AI_LAYERS is {value:g}, not a whole number")
    return None if value is None else int(value)


def _named(depth: int, names: Iterable[tuple[str, str]]) -> tuple[int | None, str]:
    """The interaction layers that an official name of this depth stands for, and where it was found."""
    for name, place in names:
        match = _RECIPE_NAME.fullmatch(name)
        if match and int(match[1]) == depth and depth in AI_LAYERS:
            return AI_LAYERS[depth], f"{place}: {name}"
    return None, ""
