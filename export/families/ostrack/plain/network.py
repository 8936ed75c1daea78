"""OSTrack and JN, plain form: encoder, target-indicating token, head.

Parameter names are those of the released state dicts. This is the reference of every parity check, and what
training trains; the graphs in a bundle are the exact fast form of it (`graphs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jntrt.export.families.ostrack.plain.encoder import Encoder, Mlp, template_rows
from jntrt.export.families.ostrack.plain.form import ViTForm
from jntrt.export.families.ostrack.plain.heads import HEADS
from jntrt.export.families.ostrack.recipe import Recipe


class OSTrack(ViTForm):
    """The one-stream tracker that a recipe describes; JN has a target-indicating token or its own head.

    `drop_path`: largest stochastic-depth rate, growing linearly with the block's number (training only).
    """

    recipe: Recipe
    backbone: Encoder
    rows: Tensor | None

    def __init__(self, recipe: Recipe, drop_path: float = 0.0) -> None:
        super().__init__(recipe, recipe)
        self.kept_sets = tuple(map(kept_name, recipe.keep_counts))
        self.backbone = Encoder(recipe, drop_path)
        self.box_head = HEADS[recipe.head](recipe)
        if recipe.target_hidden:
            self.target_token_embed = Mlp(4, recipe.target_hidden, recipe.dim)
        self.register_buffer("rows", template_rows(recipe), persistent=False)
        self.draw_weights()

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        target_box: Tensor | None = None,
        template_mask: Tensor | None = None,
        keep_ratio: float | Sequence[float] | None = None,
        forced: Mapping[int, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Maps of one template and search crop per sample.

        template, search: B×3×S×S float32, ImageNet-normalised (`normalise`).
        target_box: B×4 in the recipe's format; needed when the recipe has a target-indicating token.
        template_mask: B×Nz bool or weights; needed when the recipe ranks by the box's template tokens.
        keep_ratio: in place of the recipe's, one for all eliminating blocks or one each (a training warm-up).
        forced: block → cells to keep there (B×keep), in place of the ranking (parity checks).

        Returns the head's maps (see its `forward`), `features` B×n²×D (the head's input: search tokens after
        the final norm, row-major, zero where dropped), `template_features` B×Nz×D, and `similarity.L`,
        `kept.L` of the eliminating blocks (see `Encoder.forward`).
        """
        recipe = self.recipe
        token = None
        if recipe.target_hidden:
            if target_box is None:
                raise ValueError("this network has a target-indicating token: target_box is needed")
            token = self.target_token_embed(target_box)[:, None]
        out = {}
        context, features, notes = self.backbone(
            template, search, token, self._rows(template_mask, len(search)), self._counts(keep_ratio), forced
        )
        out["features"] = features
        out["template_features"] = context[:, -recipe.template_count :]
        out.update(notes)
        side = recipe.search_side
        out.update(self.box_head(features.transpose(1, 2).reshape(-1, recipe.dim, side, side)))
        return out

    def predict(
        self, inputs: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """As `PlainForm.predict` says, and `similarity.L` of the eliminating blocks."""
        layers = self.recipe.keep_counts
        out = self(
            inputs["template"],
            inputs["search"],
            inputs.get("target_box"),
            inputs.get("template_weights"),
            forced=None if kept is None else {layer: kept[kept_name(layer)] for layer in layers},
        )
        box, score = self.decode(out)
        notes = {f"similarity.{layer}": out[f"similarity.{layer}"] for layer in layers}
        return {"box": box, "score": score, **{kept_name(i): out[f"kept.{i}"] for i in layers}, **notes}

    def ranking_gaps(
        self, predicted: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float64]:
        """The largest `ranking_gap` of the eliminating blocks, per sample."""
        rows = range(len(predicted["box"]))
        layers = self.recipe.keep_counts
        return np.array(
            [
                max(ranking_gap(predicted[f"similarity.{i}"][row], kept[kept_name(i)][row]) for i in layers)
                for row in rows
            ]
        )

    def _counts(self, keep_ratio: float | Sequence[float] | None) -> dict[int, int]:
        recipe = self.recipe
        if keep_ratio is None:
            return recipe.keep_counts
        ratios = [keep_ratio] * len(recipe.ce_layers) if isinstance(keep_ratio, float | int) else keep_ratio
        return replace(recipe, keep_ratio=tuple(ratios)).keep_counts

    def _rows(self, template_mask: Tensor | None, batch: int) -> Tensor:
        if self.rows is not None:
            return self.rows.expand(batch, -1)
        if template_mask is None:
            if self.recipe.ce_layers:
                raise ValueError("this network ranks by the box's template tokens: template_mask is needed")
            return self.backbone.pos_embed_z.new_zeros(batch, self.recipe.template_count)
        weights = template_mask.to(self.backbone.pos_embed_z.dtype)
        return weights / weights.sum(dim=1, keepdim=True)


def kept_name(layer: int) -> str:
    """What the track graph calls the cells that an eliminating block keeps."""
    return f"blocks.{layer}/ce/kept"


def ranking_gap(similarity: NDArray[Any], kept: NDArray[Any]) -> float:
    """By how much of the similarities' range a dropped token stood above a kept one; 0 or less: by nothing.

    similarity: n², NaN for tokens that did not arrive; kept: cells.
    """
    arrived = ~np.isnan(similarity)
    dropped = arrived.copy()
    dropped[kept] = False
    spread = np.ptp(similarity[arrived])
    return float(
        (similarity[dropped].max() - similarity[kept].min()) / max(spread, np.finfo(np.float32).tiny)
    )
