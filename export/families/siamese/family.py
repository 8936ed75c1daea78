"""What the exporter, the benches and training ask of the Siamese trackers (`contract.Family`).

What imports torch or onnx does so inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jntrt.export.experiment_yaml import ExperimentYaml
from jntrt.export.families.inference import Inferred
from jntrt.export.families.siamese.infer import Flags, infer_recipe
from jntrt.export.families.siamese.infer import recognise as recognise
from jntrt.export.families.siamese.published import NETWORKS as NETWORKS
from jntrt.export.families.siamese.published import SUPPORTED as SUPPORTED
from jntrt.export.families.siamese.published import published as published
from jntrt.export.families.siamese.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from jntrt.export.families.contract import Box, Weights
    from jntrt.export.families.siamese.plain.network import Network


def own_names(weights: Weights) -> Weights:
    """As they are."""
    return weights


def infer(
    weights: Weights,
    config: ExperimentYaml | None,
    flags: Flags,
    names: Iterable[tuple[str, str]],
) -> Inferred:
    """The recipe of `weights`, as the contract says; `names` say nothing here."""
    return infer_recipe(weights, flags, config or ExperimentYaml("", {}))


def experiment(recipe: Recipe) -> dict[str, Any]:
    """The constants of the decoding under SiamBAN's keys: all that the weights do not show."""
    return {
        "family": recipe.family,
        "TRACK": {
            "WINDOW_INFLUENCE": recipe.window_influence,
            "PENALTY_K": recipe.penalty_k,
            "LR": recipe.rate,
        },
    }


def plain(recipe: Recipe) -> Network:
    """The network as the papers say it."""
    from jntrt.export.families.siamese.plain import network

    return network.plain(recipe)


def graphs(recipe: Recipe, weights: Weights, batch: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The template graph and the track graph."""
    from jntrt.export.families.siamese.fast.graphs import build_graphs

    return build_graphs(recipe, weights, batch)


def conventions(recipe: Recipe) -> dict[str, Any]:
    """Squares with context, the frame's mean colour outside it, lengths mapped by the exact side.

    NanoTrack rounds a corner down, begins half a pixel up and left, and keeps the box's centre in the frame;
    HNE rounds half to even and clips the box as OSTrack does.
    """
    crop = {
        "context": "padded",
        "border": "mean",
        "side": "half-even",
        "corner": "half-even" if recipe.is_hne else "floor",
        "edge": "exact",
        "scale": "exact",
    }
    state = {"clip": "box", "least_size": 10, "start_shift": 0}
    if not recipe.is_hne:
        state = {"clip": "centre", "least_size": 10, "start_shift": -0.5}
    return {
        "template": {"size": recipe.template_size, **crop},
        "search": {"size": recipe.search_size, **crop},
        "state": state,
        "state_inputs": {"previous_size": "size"},
    }


def side_inputs(recipe: Recipe, box: Box) -> dict[str, NDArray[np.float32]]:
    """None: crops and the state are all that the graphs take."""
    return {}


def macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the plain form for a frame, its correlations too; the template runs once."""
    from jntrt.export.families.siamese.plain.network import plain_macs

    return plain_macs(recipe)
