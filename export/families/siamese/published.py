"""The published networks: their recipes, and their speeds, other people's figures on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jntrt.export.families.contract import Published, Supported
from jntrt.export.families.siamese.recipe import CONSTANTS, Recipe

_RESNET50 = ((3, 64, 256), (4, 128, 512), (6, 256, 1024), (3, 512, 2048))
_MOBILENET = (
    (3, 16, 16, 8, 0, 2),
    (3, 72, 24, 0, 0, 2),
    (3, 88, 24, 0, 0, 1),
    (5, 96, 40, 24, 1, 2),
    (5, 240, 40, 64, 1, 1),
    (5, 240, 40, 64, 1, 1),
    (5, 120, 48, 32, 1, 1),
    (5, 144, 48, 40, 1, 1),
    (5, 288, 96, 72, 1, 1),
)


def _nanotrack(blocks: tuple[tuple[int, ...], ...], width: int, tower: int) -> Recipe:
    version = "nanotrack-v3"
    return Recipe(
        family="siamese",
        version=version,
        stem=16,
        blocks=blocks,
        width=blocks[-1][2],
        cls_tower=(3,) * tower,
        reg_tower=(3,) * tower,
        cls_width=width,
        reg_width=width,
        stride=16,
        grid_offset=15,
        **CONSTANTS[version],
    )


NETWORKS = {
    "tiny": _nanotrack(
        ((3, 16, 16, 8, 0, 2), (3, 24, 16, 0, 0, 2), (5, 32, 16, 8, 1, 1), (5, 32, 16, 8, 1, 2)), 16, 1
    ),
    "nanotrack3": _nanotrack(_MOBILENET, 96, 6),
    "hne": Recipe(
        family="siamese",
        version="hne",
        stem=64,
        blocks=_RESNET50,
        width=256,
        cls_tower=(3,) * 4,
        reg_tower=(3,) * 4,
        cls_width=256,
        reg_width=256,
        stride=8,
        grid_offset=27,
        **CONSTANTS["hne"],
    ),
}

_CONSTANTS = "nothing at the published sizes, else window influence, penalty k and rate"
SUPPORTED = (
    Supported(
        "NanoTrack v1, v2, v3", "ban_head.corr_pw, corr_pw_reg, corr_dw_reg", _CONSTANTS, "Apache-2.0", "–"
    ),
    Supported("HNE", "head.2.cls.kernel", _CONSTANTS, "no code published", "37 FPS where SiamRPN++ has 35"),
)

_HNE = Published("HNE", 37.0, "scope not stated", "test machine of SiamRPN++ (35 FPS there)")


def published(recipe: Mapping[str, Any]) -> Published | None:
    """HNE's frames per second; NanoTrack's paper figures have no speed on a named machine."""
    try:
        blocks = tuple(map(tuple, recipe.get("blocks", ())))
    except TypeError:  # a recipe that export-jn did not write
        return None
    described = (recipe.get("version"), blocks, recipe.get("width"))
    return _HNE if described == ("hne", _RESNET50, 256) else None


def published_sizes(recipe: Recipe) -> bool:
    """Whether the network is one that its authors published: backbone, widths and towers alike."""
    return _sizes(recipe) in _PUBLISHED


def _sizes(recipe: Recipe) -> tuple[object, ...]:
    towers = (recipe.cls_tower, recipe.reg_tower, recipe.cls_width, recipe.reg_width)
    return (recipe.version, recipe.stem, recipe.blocks, recipe.width, *towers)


_PUBLISHED = {
    ("nanotrack-v1", 16, _MOBILENET[:-1], 48, (5, 5, 3), (3, 3, 5, 5), 128, 96),
    ("nanotrack-v2", 16, _MOBILENET[:-1], 48, (3,) * 6, (3,) * 6, 96, 96),
    _sizes(NETWORKS["nanotrack3"]),
    _sizes(NETWORKS["hne"]),
}
