"""The published networks: their recipes, and their speeds, other people's figures on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jntrt.export.families.contract import Published, Supported
from jntrt.export.families.litetrack.recipe import Recipe

AI_LAYERS = {9: 3, 8: 3, 6: 3, 4: 2}
"""Depth → interaction layers of B9-3, B8-3, B6-3 and B4-2."""
CROPS: dict[str, Any] = {"template_factor": 2.0, "search_factor": 4.0}

SUPPORTED = (
    Supported(
        "LiteTrack",
        "CAE's blocks, box_head, no backbone.norm",
        "interaction layers (the recipe name, AI_LAYERS or --ai-layers)",
        "MIT",
        "B9-3 171, B8-3 190, B6-3 237, B4-2 315 FPS, RTX 2080 Ti",
    ),
)

_SHOWN: dict[str, Any] = {"template_size": 128, "search_size": 256, "dim": 768, "mlp_dim": 3072, "patch": 16}
_FPS = {9: 171.0, 8: 190.0, 6: 237.0, 4: 315.0}


def _network(depth: int) -> Recipe:
    return Recipe(depth=depth, ai_layers=AI_LAYERS[depth], heads=12, target_hidden=4, **_SHOWN, **CROPS)


NETWORKS = {
    "tiny": Recipe(32, 2.0, 64, 4.0, dim=16, depth=2, ai_layers=1, heads=1, mlp_dim=16, head_channels=8),
    "litetrack-b6": _network(6),
    "litetrack-b4": _network(4),
}


def published_sizes(shown: Mapping[str, Any]) -> bool:
    """Whether what the weights show (a recipe's fields) is a network of the paper."""
    return shown["depth"] in AI_LAYERS and all(shown[key] == size for key, size in _SHOWN.items())


def published(recipe: Mapping[str, Any]) -> Published | None:
    """The figure of the model that `recipe` (a manifest's) describes; None where nobody published one."""
    for depth, fps in _FPS.items():
        network = _network(depth).to_dict()
        if all(recipe.get(key) == value for key, value in network.items()):
            return Published(
                f"LiteTrack-B{depth}-{AI_LAYERS[depth]}", fps, "search branch, PyTorch", "RTX 2080 Ti"
            )
    return None
