"""The plain form of a recipe, and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jntrt.export.families.siamese.hne import HardNegativeTracker
from jntrt.export.families.siamese.nanotrack import NanoTrack
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.runtime.errors import UserError
from numpy.typing import NDArray

Network = NanoTrack | HardNegativeTracker
Weights = Mapping[str, NDArray[Any]]


def plain(recipe: Recipe) -> Network:
    """The recipe's network as the papers have it, with fresh weights."""
    return HardNegativeTracker(recipe) if recipe.is_hne else NanoTrack(recipe)


def load_weights(model: Network, weights: Weights) -> list[str]:
    """Copies the checkpoint's tensors into the model and returns the names it has no use for, sorted.

    The bias of a convolution that has none here goes into the batch norm behind it, exactly.
    Raises UserError for a missing tensor, one of another shape or one of whole numbers, naming them.
    """
    own = {name: t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - weights.keys())
    if missing:
        raise UserError(f"the checkpoint lacks {len(missing)} weights of this network: {_some(missing)}")
    wrong = [
        f"{name} {tuple(weights[name].shape)} (should be {tuple(t.shape)})"
        for name, t in own.items()
        if tuple(weights[name].shape) != tuple(t.shape)
    ]
    if wrong:
        raise UserError(f"the checkpoint's shapes do not fit this network: {_some(wrong)}")
    whole = [name for name in own if weights[name].dtype.kind != "f"]
    if whole:
        raise UserError(f"weights that are not floating-point numbers: {_some(whole)}")
    biases = stray_biases(own, weights)
    with torch.no_grad():
        for name, tensor in own.items():
            array = weights[name]
            if name in biases:
                array = array - weights[biases[name]]  # norm(x + b) has the mean of norm(x) less b
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    used = own.keys() | set(biases.values())
    return sorted(n for n in weights if n not in used and not n.endswith("num_batches_tracked"))


def stray_biases(own: Mapping[str, Any], weights: Weights) -> dict[str, str]:
    """`X.bn.running_mean` → `X.conv.bias`, where the checkpoint has that bias and the network has not."""
    return {
        name: bias
        for name in own
        if name.endswith(".bn.running_mean")
        and (bias := name.removesuffix("bn.running_mean") + "conv.bias") in weights
        and weights[bias].shape == weights[name].shape
    }


def _some(names: Sequence[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
