"""A finished run as a checkpoint that `export-jn` takes: fp16 safetensors and the recipe's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.errors import UserError
from torch import Tensor

_RANGES = {"center": "CTR_POINT", "rect": "CTR_REC", "box": "GT_BOX", "all": "ALL"}
_HEADS = {"center": "CENTER", "corner": "CORNER", "distribution": "DIST"}


def write_reference(
    average: dict[str, Tensor],
    recipe: Recipe,
    folder: Path,
    name: str,
    presence_threshold: float | None,
    licence: str,
) -> list[Path]:
    """Writes NAME.safetensors (float16) and NAME.yaml into `folder` and returns both paths.

    UserError where a weight does not fit float16, the threshold is no score or the name is a path.
    """
    import yaml
    from safetensors.torch import save_file

    if presence_threshold is not None and not 0 <= presence_threshold <= 1:
        raise UserError(f"presence threshold {presence_threshold:g}: a score lies between 0 and 1")
    if not name or Path(name).name != name:
        raise UserError(f"name {name!r}: give a file's name without folders")
    halves = {}
    for key, value in average.items():
        if key.endswith("num_batches_tracked"):
            continue
        halves[key] = value.detach().cpu().to(torch.float16).contiguous()
        if not torch.isfinite(halves[key]).all():
            raise UserError(f"{key}: a value is not finite, or too large for float16; train with a lower lr")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.safetensors", folder / f"{name}.yaml"]
    save_file(halves, paths[0])
    text = yaml.safe_dump(
        recipe_yaml(recipe, presence_threshold, licence), sort_keys=False, default_flow_style=None
    )
    paths[1].write_text(text, encoding="utf-8")
    return paths


def recipe_yaml(recipe: Recipe, presence_threshold: float | None, licence: str) -> dict[str, Any]:
    """The recipe under OSTrack's keys, as `export-jn --config` reads them."""
    backbone: dict[str, Any] = {
        "STRIDE": recipe.patch,
        "EMBED_DIM": recipe.dim,
        "DEPTH": recipe.depth,
        "NUM_HEADS": recipe.heads,
        "CE_LOC": list(recipe.ce_layers),
        "CE_KEEP_RATIO": list(recipe.keep_ratio),
        "CE_TEMPLATE_RANGE": _RANGES[recipe.template_tokens],
    }
    out: dict[str, Any] = {
        "family": recipe.family,
        "DATA": {
            "SEARCH": {"FACTOR": recipe.search_factor, "SIZE": recipe.search_size},
            "TEMPLATE": {"FACTOR": recipe.template_factor, "SIZE": recipe.template_size},
        },
        "MODEL": {
            "TARGET_BOX_FORMAT": recipe.target_box_format,
            "BACKBONE": backbone,
            "HEAD": {"TYPE": _HEADS[recipe.head], "NUM_CHANNELS": recipe.head_channels},
        },
        "LICENSE": licence,
        "TRAINED": True,
    }
    if presence_threshold is not None:
        out["PRESENCE_THRESHOLD"] = round(presence_threshold, 3)
    return out
