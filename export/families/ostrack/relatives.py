"""Published trackers that are OSTrack under other names, and how their weights become OSTrack's.

- CompressTracker (2409.17564): it tracks with `backbone.distill_blocks`, 2, 3, 4 or 6 of them, without
  elimination; a checkpoint of its training holds the teacher beside them.
- DropTrack (2304.00571): a learnt vector for either crop is added to the positions.
- ORTrack (2504.09228): a DeiT-tiny, without elimination; its names are OSTrack's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.export.families.contract import Weights

COMPRESSED = "backbone.distill_blocks."
TEMPORAL = "backbone.temporal_pos_embed_"
_OSTRACK_NAME = re.compile(r"vit[bl]_(256|384)_[\w.+-]+")
_COMPRESSED_NAME = re.compile(r"compresstracker_vitb_256_(\d)")
_DEIT_NAME = re.compile(r"deit_tiny_(?:distilled_)?patch16_224")


def relative(weights: Iterable[str]) -> str | None:
    """Whose weights these are by a name that OSTrack's do not have: the tracker and the name."""
    for sign, tracker in ((COMPRESSED, "CompressTracker"), (TEMPORAL, "DropTrack")):
        if any(name.startswith(sign) for name in weights):
            return f"{tracker}: {sign.rstrip('._')}"
    return None


def released(weights: Weights) -> Weights:
    """The weights as OSTrack's; its own ones are returned as they are.

    Raises `UserError` for a vector of DropTrack's that is not one for each channel.
    """
    if any(name.startswith(COMPRESSED) for name in weights):
        weights = {
            name.replace(COMPRESSED, "backbone.blocks."): array
            for name, array in weights.items()
            if not name.startswith("backbone.blocks.")  # the teacher's, replaced one by one in training
        }
    added = {
        f"backbone.pos_embed_{crop}": f"{TEMPORAL}{crop}" for crop in "zx" if f"{TEMPORAL}{crop}" in weights
    }
    if not added:
        return weights
    folded = {}
    for place, frame in added.items():
        width = weights[place].shape[-1:] if place in weights else ()
        if weights[frame].shape != (1, 1, *width) or not width:
            raise UserError(
                f"{frame} has the shape {tuple(weights[frame].shape)}, not one row as {place} has"
            )
        folded[place] = weights[place] + weights[frame]
    return {name: array for name, array in weights.items() if name not in added.values()} | folded


def named_layers(name: str, shown: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The eliminating blocks of the official recipe of that name; None: none is called so of these sizes.

    shown: the recipe's fields that the weights show.
    """
    if match := _OSTRACK_NAME.fullmatch(name):
        layers = (3, 6, 9) if "ce" in name.split("_") else ()
        return layers if int(match[1]) == shown["search_size"] else None
    compressed = _COMPRESSED_NAME.fullmatch(name)
    tiny = _DEIT_NAME.fullmatch(name) and shown["dim"] == 192
    fits = shown["search_size"] == 256 and (tiny or (compressed and int(compressed[1]) == shown["depth"]))
    return () if fits else None
