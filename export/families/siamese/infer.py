"""Which Siamese tracker a checkpoint holds, and its recipe: read from names and shapes.

Weights show all sizes; strides and activations are the published tables'. The constants of the decoding are
the published ones of each version where the sizes are, unless the user says otherwise; elsewhere they have to
be said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jntrt.export.experiment_yaml import ExperimentYaml
from jntrt.export.families.inference import CommonFlags, Inference, Inferred, flag
from jntrt.export.families.siamese.published import published_sizes
from jntrt.export.families.siamese.recipe import CONSTANTS, Recipe
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.export.families.contract import Weights

_TOWERS = {
    "nanotrack-v1": ("ban_head.cls_tower", "ban_head.bbox_tower"),
    "nanotrack-v2": ("ban_head.cls_pw_tower", "ban_head.bbox_pw_tower"),
    "nanotrack-v3": ("ban_head.cls_tower", "ban_head.bbox_tower"),
}
_KEYS = {
    "window_influence": "TRACK.WINDOW_INFLUENCE",
    "penalty_k": "TRACK.PENALTY_K",
    "rate": "TRACK.LR",
}
_STRIDED = (1, 2, 4)  # inverted residuals of stride 2; with the stem's that makes 16
_FIRST_HSWISH = 4
_WEIGHT = "it is no NanoTrack or HNE network under its published names; --key-map FILE renames weights"


def recognise(weights: Weights) -> str | None:
    """Why the weights are this family's, or None. Names alone are looked at."""
    version = _version(weights)
    return None if version is None else f"{version}: {_SIGNS[version]}"


@dataclass(frozen=True)
class Flags(CommonFlags):
    """Flags of `export-jn`; None where nothing was said."""

    window_influence: float | None = flag("Weight of the window, 0 … 1. Published: the version's own.", "X")
    penalty_k: float | None = flag("How much a change of size counts. Published: the version's own.", "X")
    rate: float | None = flag("Largest share of the new size. Published: the version's own.", "X")


def infer_recipe(weights: Weights, flags: Flags, config: ExperimentYaml) -> Inferred:
    """The recipe of `weights`, its constants from flags, else the file's TRACK table, else as published.

    Raises `UserError` as `recipe_from_weights`, for a constant that is not in 0…1, and for one that nobody
    said of a network whose sizes are not the published ones.
    """
    found = Inference(flags, config)
    recipe = recipe_from_weights(weights)
    for what, value in recipe.to_dict().items():
        if what not in _KEYS:
            found.row(what, value, "weights")
    published = CONSTANTS[recipe.version] if published_sizes(recipe) else {}
    said = {
        what: found.choose(what, config.number(key), published.get(what), recipe.version)
        for what, key in _KEYS.items()
    }
    found.complete()
    return found.inferred(replace(recipe, **said))


def recipe_from_weights(weights: Weights) -> Recipe:
    """The recipe that names and shapes show, with the published constants of its version.

    Raises `UserError` for weights of another family, gaps in the numbering and shapes of another rank.
    """
    version = _version(weights)
    if version is None:
        raise UserError(f"no weight ban_head.corr_… or head.2.cls.…: {_WEIGHT}")
    shown = _hne(weights) if version == "hne" else _nanotrack(weights, version)
    return Recipe(family="siamese", version=version, **shown, biases=_biases(weights), **CONSTANTS[version])


_SIGNS = {
    "nanotrack-v1": "ban_head.corr_pw, one correlation for both branches",
    "nanotrack-v2": "ban_head.corr_pw_reg, a pixel-wise correlation for each branch",
    "nanotrack-v3": "ban_head.corr_dw_reg, a depth-wise correlation beside each pixel-wise one",
    "hne": "head.2.cls.kernel, a head for each of three levels",
}


def _version(weights: Weights) -> str | None:
    prefixes = {
        "ban_head.corr_dw_reg.": "nanotrack-v3",
        "ban_head.corr_pw_reg.": "nanotrack-v2",
        "ban_head.corr_pw.": "nanotrack-v1",
        "head.2.cls.kernel.": "hne",
    }
    return next((v for p, v in prefixes.items() if any(name.startswith(p) for name in weights)), None)


def _nanotrack(weights: Weights, version: str) -> dict[str, Any]:
    blocks = []
    for n in range(1, _count(weights, r"backbone\.features\.(\d{1,3})\.")):
        name = f"backbone.features.{n}.conv"
        expanded = f"{name}.7.weight" in weights
        depthwise, squeeze, project = (3, 5, 7) if expanded else (0, 3, 4)
        hidden, _, kernel, _ = _shape(weights, f"{name}.{depthwise}.weight", 4)
        excite = f"{name}.{squeeze}.fc.0.weight"
        blocks.append(
            (
                kernel,
                hidden,
                _shape(weights, f"{name}.{project}.weight", 4)[0],
                _shape(weights, excite, 2)[0] if excite in weights else 0,
                int(n >= _FIRST_HSWISH),
                2 if n in _STRIDED else 1,
            )
        )
    cls, reg = _TOWERS[version]
    pair = 3 if version == "nanotrack-v3" else 1  # layers from a depth-wise convolution to its 1×1
    return {
        "stem": _shape(weights, "backbone.features.0.0.weight", 4)[0],
        "blocks": tuple(blocks),
        "width": blocks[-1][2] if blocks else 0,
        "cls_tower": _depthwise_kernels(weights, cls),
        "reg_tower": _depthwise_kernels(weights, reg),
        "cls_width": _shape(weights, f"{cls}.{pair}.weight", 4)[0],
        "reg_width": _shape(weights, f"{reg}.{pair}.weight", 4)[0],
        "stride": 16,
        # The middle cell, ⌊n/2⌋, stands at the crop's centre, pixel 127.
        "grid_offset": 127 - 16 * (7 if version == "nanotrack-v3" else 8),
    }


def _hne(weights: Weights) -> dict[str, Any]:
    blocks = []
    for layer in range(1, 5):
        name = f"backbone.layer{layer}"
        blocks.append(
            (
                _count(weights, rf"{re.escape(name)}\.(\d{{1,3}})\."),
                _shape(weights, f"{name}.0.conv1.weight", 4)[0],
                _shape(weights, f"{name}.0.conv3.weight", 4)[0],
            )
        )
    width = _shape(weights, "neck.2.conv.weight", 4)[0]
    return {
        "stem": _shape(weights, "backbone.conv1.weight", 4)[0],
        "blocks": tuple(blocks),
        "width": width,
        "cls_tower": _tower_kernels(weights, "head.2.cls.tower"),
        "reg_tower": _tower_kernels(weights, "head.2.reg.tower"),
        "cls_width": width,
        "reg_width": width,
        "stride": 8,
        # 127 - 8·(26 - 1)/2: the map's centre is the crop's.
        "grid_offset": 27,
    }


def _biases(weights: Weights) -> tuple[str, ...]:
    """HNE's convolutions before a batch norm that have a bias all the same."""
    pattern = re.compile(r"(?:backbone|neck|head)\.(?:.+\.)?(?:conv\d?|downsample\.0)\.bias")
    return tuple(sorted(name.removesuffix(".bias") for name in weights if pattern.fullmatch(name)))


def _depthwise_kernels(weights: Weights, tower: str) -> tuple[int, ...]:
    """Kernel sizes of a NanoTrack tower, in order: of its convolutions with one input channel a group."""
    numbers = sorted(
        int(match[1])
        for name, array in weights.items()
        if (match := re.fullmatch(rf"{re.escape(tower)}\.(\d{{1,3}})\.weight", name))
        and array.ndim == 4
        and array.shape[1] == 1
    )
    if not numbers:
        raise UserError(f"no depth-wise convolution in {tower}: {_WEIGHT}")
    return tuple(int(weights[f"{tower}.{n}.weight"].shape[-1]) for n in numbers)


def _tower_kernels(weights: Weights, tower: str) -> tuple[int, ...]:
    count = _count(weights, rf"{re.escape(tower)}\.(\d{{1,3}})\.")
    return tuple(_shape(weights, f"{tower}.{n}.conv.weight", 4)[-1] for n in range(count))


def _count(weights: Iterable[str], pattern: str) -> int:
    """How many numbers the names have at the pattern's group; they must be 0, 1, 2, …"""
    found = {int(match[1]) for name in weights if (match := re.match(pattern, name))}
    if not found or found != set(range(len(found))):
        shown = pattern.replace("\\", "").replace("(d{1,3})", "N")
        raise UserError(f"the checkpoint's {shown} are not numbered 0, 1, 2, …; --key-map renames weights")
    return len(found)


def _shape(weights: Weights, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in weights:
        raise UserError(f"no weight {name!r} in the checkpoint: {_WEIGHT}")
    shape = weights[name].shape
    if len(shape) != dimensions or 0 in shape:
        raise UserError(f"weight {name} has the shape {tuple(shape)}, not {dimensions} dimensions")
    return tuple(int(n) for n in shape)
