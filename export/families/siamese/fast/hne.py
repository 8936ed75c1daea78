"""HNE's neck and heads in their fast form: the exemplar's kernels, and fused maps from them.

The levels are fused by the last convolutions: w₂·conv₂(x₂) + w₃·conv₃(x₃) + w₄·conv₄(x₄) is one convolution
of the towers side by side. Of the two score logits only their difference is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jntrt.export.families.siamese.fast.backbones import folded
from jntrt.export.families.siamese.fast.correlation import depthwise_correlation
from jntrt.export.families.siamese.fast.fold import Weights, difference, f32, fused_levels, plain_conv
from jntrt.export.families.siamese.plain.hne import EXEMPLAR_CELLS, LEVELS
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.export.onnx.layers import concat, convolution
from jntrt.export.onnx.value import Value

KERNEL_SIDE = EXEMPLAR_CELLS - 2  # after an unpadded 3×3


@dataclass(frozen=True)
class HneHead:
    """Writes neck and heads of a recipe and its weights for a fixed batch."""

    recipe: Recipe
    weights: Weights
    batch: int

    def memory(self, levels: Sequence[Value]) -> dict[str, Value]:
        """The exemplar's features of levels 2, 3, 4 → `memory_LEVEL_BRANCH` B×C×5×5."""
        edge = (self.recipe.template_side - EXEMPLAR_CELLS) // 2
        kept = {}
        for level, z in zip(LEVELS, self._neck(levels), strict=True):
            with z.graph.scope(f"memory/{level}"):
                centre = z.crop(edge, edge, EXEMPLAR_CELLS, EXEMPLAR_CELLS, "centre")
                for branch in ("cls", "reg"):
                    kernel = self._layer(centre, f"head.{level}.{branch}.kernel", branch, padding=0)
                    kept[f"memory_{level}_{branch}"] = kernel.relu(f"{branch}/relu")
        return kept

    def maps(self, levels: Sequence[Value], memory: Mapping[str, Value]) -> tuple[Value, Value, Value]:
        """The instance's features → foreground's logit (the difference) and centre-ness's, each B×1×n×n, and
        log-distances B×4×n×n, all fused."""
        graph = levels[0].graph
        necks = self._neck(levels)
        towers = {}
        for branch in ("cls", "reg"):
            ends = [self._tower(x, memory, level, branch) for level, x in zip(LEVELS, necks, strict=True)]
            with graph.scope("head"):
                towers[branch] = concat(ends, axis=1, name=f"{branch}/levels")
        with graph.scope("head"):
            return (
                self._fused(towers["cls"], "cls", "score"),
                self._fused(towers["cls"], "cls", "centerness"),
                self._fused(towers["reg"], "reg", "distance"),
            )

    def _neck(self, levels: Sequence[Value]) -> list[Value]:
        with levels[0].graph.role("int8"):
            return [
                self._layer(x, f"neck.{level}", f"neck/{level}")
                for level, x in zip(LEVELS, levels, strict=True)
            ]

    def _tower(self, x: Value, memory: Mapping[str, Value], level: str, branch: str) -> Value:
        name, recipe = f"head.{level}.{branch}", self.recipe
        kernels = recipe.cls_tower if branch == "cls" else recipe.reg_tower
        with x.graph.scope(f"head.{level}/{branch}"), x.graph.role("int8"):
            x = self._layer(x, f"{name}.search", "search", padding=0).relu("search/relu")
            shape = (self.batch, recipe.width, recipe.search_side - 2, KERNEL_SIDE)
            x = depthwise_correlation(x, memory[f"memory_{level}_{branch}"], "dw", shape)
            for i in range(len(kernels)):
                x = self._layer(x, f"{name}.tower.{i}", f"tower.{i}").relu(f"tower.{i}/relu")
        return x

    def _fused(self, x: Value, branch: str, name: str) -> Value:
        convs = [plain_conv(self.weights, f"head.{level}.{branch}.{name}") for level in LEVELS]
        if name == "score":
            convs = [difference(conv) for conv in convs]
        kernel, bias = fused_levels(convs, self.weights[f"level_weight.{name}"])
        return convolution(x, f32(kernel), f32(bias), name)

    def _layer(self, x: Value, name: str, place: str, padding: int | None = None) -> Value:
        return folded(x, self.weights, f"{name}.conv", f"{name}.bn", place, padding=padding)
