"""Reads the golden LiteTrack cases: weights (float32), inputs with a batch axis, outputs, recipe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.experiment_yaml import read_experiment_yaml
from jntrt.export.families.litetrack import family
from jntrt.export.families.litetrack.plain import LiteTrack
from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.export.families.plain import load_weights

GOLDEN = Path(__file__).resolve().parents[3] / "data" / "golden" / "litetrack"
CASES = ("b6_3", "b4_2")


@dataclass(frozen=True)
class Case:
    """`inputs` by the graphs' names, B×…; `outputs` as the official code gave them."""

    recipe: Recipe
    weights: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def plain(self) -> LiteTrack:
        model = LiteTrack(self.recipe).eval()
        assert load_weights(model, self.weights) == ["backbone.cls_token", "backbone.pos_embed"]
        return model


@cache
def golden_case(name: str) -> Case:
    folder = GOLDEN / name
    weights = dict(read_checkpoint(folder / "weights.safetensors").weights)
    inferred = family.infer(weights, read_experiment_yaml(folder / "config.yaml"), family.Flags(), ())
    inputs, outputs = (dict(np.load(folder / f"{part}.npz")) for part in ("inputs", "outputs"))
    given = {**inputs, "target_box": outputs["template_box_xyxy"]}
    return Case(inferred.recipe, weights, {k: v[None] for k, v in given.items()}, outputs)
