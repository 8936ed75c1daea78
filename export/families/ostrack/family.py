"""What the exporter, the benches and training ask of OSTrack and JN (`contract.Family`).

What imports torch or onnx does so inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jntrt.export.families.inference import Inferred
from jntrt.export.families.ostrack.experiment_file import recipe_table, recipe_yaml
from jntrt.export.families.ostrack.flags import Flags
from jntrt.export.families.ostrack.infer import infer_recipe
from jntrt.export.families.ostrack.plain.macs import plain_macs
from jntrt.export.families.ostrack.published import NETWORKS as NETWORKS
from jntrt.export.families.ostrack.published import SUPPORTED as SUPPORTED
from jntrt.export.families.ostrack.published import published as published
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.ostrack.relatives import relative, released

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from jntrt.export.experiment_yaml import ExperimentYaml
    from jntrt.export.families.contract import Box, Weights
    from jntrt.export.families.ostrack.plain.network import OSTrack

_PARTS = [re.compile(part) for part in (r"backbone\.blocks\.\d+\.", r"backbone\.norm\.", r"box_head\.")]


def recognise(weights: Weights) -> str | None:
    """A ViT's blocks and its last norm under `backbone`, and a `box_head`."""
    names = own_names(weights)
    if all(any(part.match(name) for name in names) for part in _PARTS):
        return relative(weights) or "backbone.blocks, backbone.norm and box_head"
    return None


def own_names(weights: Weights) -> Weights:
    """CompressTracker's and DropTrack's weights as OSTrack's."""
    return released(weights)


def infer(
    weights: Weights,
    config: ExperimentYaml | None,
    flags: Flags,
    names: Iterable[tuple[str, str]],
) -> Inferred:
    """The recipe of `weights`, as the contract says."""
    said = None if config is None else recipe_yaml(config)
    return infer_recipe(weights, flags=flags, config=said, names=names)


def experiment(recipe: Recipe) -> dict[str, Any]:
    """The recipe under OSTrack's keys."""
    return recipe_table(recipe)


def plain(recipe: Recipe) -> OSTrack:
    """The network as the papers say it."""
    from jntrt.export.families.ostrack.plain.network import OSTrack

    return OSTrack(recipe)


def graphs(recipe: Recipe, weights: Weights, batch: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The template graph and the track graph."""
    from jntrt.export.families.ostrack.fast.graphs import build_graphs

    return build_graphs(recipe, weights, batch)


def conventions(recipe: Recipe) -> dict[str, Any]:
    """Squares of sqrt(w·h)·factor, black outside the frame; all else is the runtime's default."""
    return {
        name: {"size": size, "factor": factor, "context": "area", "border": "zero"}
        for name, size, factor in (
            ("template", recipe.template_size, recipe.template_factor),
            ("search", recipe.search_size, recipe.search_factor),
        )
    }


def side_inputs(recipe: Recipe, box: Box) -> dict[str, NDArray[np.float32]]:
    """`target_box` (4) where there is a target token, `template_weights` (Nz) where the box's tokens rank."""
    from jntrt.runtime.bundle.conventions import CropSpec
    from jntrt.runtime.inputs import side_inputs as computed

    wanted = {"target_box"} if recipe.target_hidden else set()
    if recipe.template_tokens == "box" and recipe.keep_counts:
        wanted.add("template_weights")
    spec = CropSpec(recipe.template_size, recipe.template_factor)
    taken = computed([box], spec, recipe.target_box_format, wanted)
    return {name: value[0] for name, value in taken.items()}


def macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the plain form."""
    return plain_macs(recipe)
