"""What the exporter, the benches and training ask of LiteTrack (`contract.Family`).

What imports torch or onnx does so inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jntrt.export.families.inference import Inferred
from jntrt.export.families.litetrack.infer import Flags, infer_recipe
from jntrt.export.families.litetrack.infer import recognise as recognise
from jntrt.export.families.litetrack.published import NETWORKS as NETWORKS
from jntrt.export.families.litetrack.published import SUPPORTED as SUPPORTED
from jntrt.export.families.litetrack.published import published as published
from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.export.families.ostrack import family as ostrack
from jntrt.export.families.ostrack.experiment_file import RecipeYaml, recipe_table, recipe_yaml

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from jntrt.export.experiment_yaml import ExperimentYaml
    from jntrt.export.families.contract import Box, Weights
    from jntrt.export.families.litetrack.plain import LiteTrack


def own_names(weights: Weights) -> Weights:
    """As they are."""
    return weights


def infer(
    weights: Weights,
    config: ExperimentYaml | None,
    flags: Flags,
    names: Iterable[tuple[str, str]],
) -> Inferred:
    """The recipe of `weights`, as the contract says."""
    said = RecipeYaml("", {}) if config is None else recipe_yaml(config)
    return infer_recipe(weights, flags, said, names)


def experiment(recipe: Recipe) -> dict[str, Any]:
    """The recipe under LiteTrack's keys."""
    table = recipe_table(recipe.one_stream)
    model = table["MODEL"]
    backbone = {key: value for key, value in model["BACKBONE"].items() if not key.startswith("CE_")}
    model = {
        "USE_CLS_TOKEN": bool(recipe.target_hidden),
        "BACKBONE": {**backbone, "AI_LAYERS": recipe.ai_layers},
        "HEAD": model["HEAD"],
    }
    return {**table, "family": "litetrack", "MODEL": model}


def plain(recipe: Recipe) -> LiteTrack:
    """The network as the paper says it."""
    from jntrt.export.families.litetrack.plain import LiteTrack

    return LiteTrack(recipe)


def graphs(recipe: Recipe, weights: Weights, batch: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The template graph and the track graph."""
    from jntrt.export.families.litetrack.fast import build_graphs

    return build_graphs(recipe, weights, batch)


def conventions(recipe: Recipe) -> dict[str, Any]:
    """OSTrack's."""
    return ostrack.conventions(recipe.one_stream)


def side_inputs(recipe: Recipe, box: Box) -> dict[str, NDArray[np.float32]]:
    """`target_box` (4), corners in units of the template crop, where there is a target token."""
    return ostrack.side_inputs(recipe.one_stream, box)


def macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the plain form."""
    from jntrt.export.families.litetrack.plain import plain_macs

    return plain_macs(recipe)
