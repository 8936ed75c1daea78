"""The published networks: their recipes, and their speeds, other people's figures on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jntrt.export.families.contract import Published, Supported
from jntrt.export.families.ostrack.recipe import Recipe

_SIZES: dict[str, Any] = {"template_factor": 2.0, "search_size": 256, "search_factor": 4.0}
_VIT_B: dict[str, Any] = {"dim": 768, "depth": 12, "heads": 12, "mlp_dim": 3072, **_SIZES}
NETWORKS = {
    "tiny": Recipe("ostrack", 32, 2.0, 64, 4.0, dim=16, depth=1, heads=1, mlp_dim=16, head_channels=8),
    "ostrack256ce": Recipe(
        family="ostrack", template_size=128, ce_layers=(3, 6, 9), keep_ratio=(0.7,) * 3, **_VIT_B
    ),
    "jn256": Recipe(
        family="jn",
        template_size=144,
        head="distribution",
        bins=17,
        quality_dim=64,
        target_hidden=768,
        **_VIT_B,
    ),
}

_CE = "elimination; crop factors are the papers' at 256 and 384 pixels"
SUPPORTED = (
    Supported("OSTrack", "blocks, norm, box_head", _CE, "MIT", "105.4 FPS at 256, 58.1 at 384, RTX 2080 Ti"),
    Supported(
        "JN",
        "the same with a target token, distribution head or CAE's names",
        "nothing at the papers' sizes",
        "no code published",
        "114 FPS at 256, 55 at 384, RTX 2080 Ti",
    ),
    Supported(
        "CompressTracker",
        "backbone.distill_blocks",
        "nothing at the paper's sizes",
        "MIT",
        "of 4 blocks 2.17 times OSTrack's",
    ),
    Supported(
        "DropTrack",
        "backbone.temporal_pos_embed",
        "elimination, as OSTrack's",
        "none stated",
        "as OSTrack's, whose network it is",
    ),
    Supported(
        "ORTrack",
        "what OSTrack's show, 192 channels",
        "the recipe name deit_tiny_patch16_224, or no elimination and crop factors 2 and 4",
        "none found",
        "–",
    ),
)

_DEVICE = "RTX 2080 Ti"
_OSTRACK_SCOPE = "network only, random input, fp32 PyTorch"
_JN_SCOPE = "scope not stated"
# (family, search size, with candidate elimination): ViT-B/16 with the paper's head.
_FIGURES = {
    ("ostrack", 256, True): Published("OSTrack-256", 105.4, _OSTRACK_SCOPE, _DEVICE),
    ("ostrack", 256, False): Published("OSTrack-256 without CE", 93.1, _OSTRACK_SCOPE, _DEVICE),
    ("ostrack", 384, True): Published("OSTrack-384", 58.1, _OSTRACK_SCOPE, _DEVICE),
    ("ostrack", 384, False): Published("OSTrack-384 without CE", 41.4, _OSTRACK_SCOPE, _DEVICE),
    ("jn", 256, False): Published("JN-256", 114.0, _JN_SCOPE, _DEVICE),
    ("jn", 384, False): Published("JN-384", 55.0, _JN_SCOPE, _DEVICE),
}
_TEMPLATE_SIZE = {("ostrack", 256): 128, ("ostrack", 384): 192, ("jn", 256): 144, ("jn", 384): 192}
_BACKBONE = {"dim": 768, "depth": 12, "mlp_dim": 3072}
_HEAD = {"ostrack": "center", "jn": "distribution"}
_PAPER_CE = ((3, 6, 9), (0.7, 0.7, 0.7))


def published(recipe: Mapping[str, Any]) -> Published | None:
    """The figure of the model that `recipe` (a manifest's) describes; None where nobody published one."""
    family = str(recipe.get("family"))
    size: Any = recipe.get("search_size")
    backbone = tuple(recipe.get(key) for key in ("dim", "depth", "heads", "mlp_dim"))
    try:
        layers, ratios = tuple(recipe.get("ce_layers", ())), tuple(recipe.get("keep_ratio", ()))
        known = (family, size, bool(layers)) in _FIGURES
    except TypeError:  # a recipe that export-jn did not write
        return None
    if not known or backbone != (768, 12, 12, 3072) or recipe.get("head") != _HEAD[family]:
        return None
    if recipe.get("template_size") != _TEMPLATE_SIZE[family, size]:
        return None
    if layers and (layers, ratios) != _PAPER_CE:
        return None
    return _FIGURES[family, size, bool(layers)]


def published_sizes(family: str, shown: Mapping[str, Any], *, compressed: bool = False) -> bool:
    """Whether what the weights show (a recipe's fields) is ViT-B with the crops of a paper's network.

    compressed: CompressTracker's, which has fewer blocks and crops of 256 pixels.
    """
    sizes = _BACKBONE
    if compressed:
        sizes = {**_BACKBONE, "depth": shown["depth"], "search_size": 256}
        if shown["depth"] not in (2, 3, 4, 6):
            return False
    template = _TEMPLATE_SIZE.get((family, shown["search_size"]))
    return shown["template_size"] == template and all(shown[key] == size for key, size in sizes.items())
