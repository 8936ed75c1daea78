"""The plain form's common face: what every family's network can be asked, and how weights come in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jntrt.runtime.errors import UserError


class PlainForm(nn.Module, ABC):
    """A tracker's network as its paper says it. The reference of every parity check, and what is trained."""

    kept_sets: tuple[str, ...] = ()
    """Interior tensors of the track graph (B×count, cells) in which a tie may be decided either way."""

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.recipe = recipe

    @abstractmethod
    def normalise(self, crop: Tensor) -> Tensor:
        """uint8 RGB crops B×S×S×3 → float32 B×3×S×S as the network takes them."""

    @abstractmethod
    def predict(
        self, inputs: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """`box` B×4 (cx, cy, w, h in units of the search crop) and `score` B, as a track graph's.

        inputs: `template` and `search` as `normalise` gives them, and by the graphs' names what these take
        beside (side inputs, state inputs). kept: cells for the `kept_sets`, in place of the ranking. Returns
        the kept sets under their names as well, and what `ranking_gaps` wants to know.
        """

    def ranking_gaps(
        self, predicted: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float64]:
        """By how much of the scores' range something dropped stood above something kept, per sample.

        predicted: what `predict` gave with `kept`. A network without `kept_sets` ranks nothing.
        """
        return np.zeros(len(predicted["score"]))


def load_weights(model: nn.Module, weights: Mapping[str, np.ndarray]) -> list[str]:
    """Copies the checkpoint's tensors into the model and returns the names it has no use for, sorted.

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
    whole = [name for name, t in own.items() if t.is_floating_point() and weights[name].dtype.kind != "f"]
    if whole:
        raise UserError(f"weights that are not floating-point numbers: {_some(whole)}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))
    return sorted(name for name in weights if name not in own and not name.endswith("num_batches_tracked"))


def _some(names: Sequence[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
