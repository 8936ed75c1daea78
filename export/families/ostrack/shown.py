"""What names and shapes of a one-stream tracker's weights show of its recipe."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.export.families.contract import Weights

_HEAD_BRANCH = {"center": "ctr", "corner": "tl", "distribution": "cls"}
_PATCH = "backbone.patch_embed.proj.weight"


def shown_by(weights: Weights) -> dict[str, Any]:
    """All fields of a one-stream recipe that the weights show.

    Raises `UserError` for missing weights, gaps in the numbering and shapes of another rank.
    """
    dim, _, patch, _ = _shape(weights, _PATCH, 4)
    found = {int(m[1]) for n in weights if (m := re.match(r"backbone\.blocks\.(\d{1,4})\.", n))}
    depth = len(found)
    if depth == 0 or found != set(range(depth)):
        raise UserError(
            "the checkpoint's backbone.blocks.N are not numbered 0, 1, 2, …; --key-map renames weights"
        )
    head = _head(weights)
    channels = _shape(weights, f"box_head.conv1_{_HEAD_BRANCH[head]}.0.weight", 4)[0]
    if channels % 8:
        raise UserError(f"the head's {channels} channels cannot be halved three times")
    shown: dict[str, Any] = {
        "template_size": _side(weights, "backbone.pos_embed_z") * patch,
        "search_size": _side(weights, "backbone.pos_embed_x") * patch,
        "dim": dim,
        "depth": depth,
        "mlp_dim": _shape(weights, "backbone.blocks.0.mlp.fc1.weight", 2)[0],
        "patch": patch,
        "qkv": "qv" if "backbone.blocks.0.attn.q_bias" in weights else "qkv",
        "layer_scale": "backbone.blocks.0.gamma_1" in weights,
        "head": head,
        "head_channels": channels,
        "target_hidden": 0,
    }
    if "target_token_embed.fc1.weight" in weights:
        shown["target_hidden"] = _shape(weights, "target_token_embed.fc1.weight", 2)[0]
    if head == "distribution":
        shown["bins"] = _shape(weights, "box_head.conv5_reg.weight", 4)[0] // 4
        shown["quality_dim"] = _shape(weights, "box_head.quality.fc1.weight", 2)[0]
        if shown["bins"] < 4:
            raise UserError(f"a distribution head of {shown['bins']} bins; its quality needs at least 4")
    return shown


def _side(weights: Weights, name: str) -> int:
    count = _shape(weights, name, 3)[1]
    side = math.isqrt(count)
    if side * side != count:
        raise UserError(f"{name} has {count} positions, which is no square map")
    return side


def _head(weights: Weights) -> str:
    for head, branch in _HEAD_BRANCH.items():
        if f"box_head.conv1_{branch}.0.weight" in weights:
            return head
    raise UserError(
        "no box head in the checkpoint (box_head.conv1_ctr, conv1_tl or conv1_cls); "
        "--key-map FILE renames weights"
    )


def _shape(weights: Weights, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in weights:
        raise UserError(
            f"no weight {name!r} in the checkpoint, so it is no OSTrack or JN network under its released "
            "names; --key-map FILE renames weights"
        )
    shape = weights[name].shape
    if len(shape) != dimensions or 0 in shape:
        raise UserError(f"weight {name} has the shape {tuple(shape)}, not {dimensions} dimensions")
    return tuple(shape)
