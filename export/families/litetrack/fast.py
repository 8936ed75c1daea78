"""LiteTrack in its exact fast form, as ONNX graphs: a frame costs its search tokens alone.

The template runs once through everything. What the interaction layers read of it, keys and values of the same
Z, is the same in every frame: it is the memory, one tensor for each of these layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.export.families.ostrack.fast.blocks import Blocks
from jntrt.export.families.ostrack.fast.fold import Weights, fold_attention
from jntrt.export.families.ostrack.fast.heads import FastHead
from jntrt.export.onnx.layers import concat, linear
from jntrt.export.onnx.value import Value
from jntrt.export.onnx.writer import FLOAT, UINT8, OnnxWriter


def build_graphs(
    recipe: Recipe, weights: Mapping[str, NDArray[Any]], batch: int = 1
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The template graph and the track graph, float32, exact up to rounding.

    weights: the checkpoint's tensors by name, complete for the recipe; floating ones float32. batch: targets
    per frame, fixed in the graphs.

    template: `template` uint8 B×Sz×Sz×3 (and `target_box` float32 B×4 for a recipe with a target token) →
    `memory_kv.L` B×2·heads×Nz×d for each interaction layer L.
    track: `search` uint8 B×Sx×Sx×3 and the memory → `box` float32 B×4 (cx, cy, w, h in units of the search
    crop) and `score` float32 B.
    """
    parts = recipe.one_stream
    template = OnnxWriter("template", weights)
    image = template.input("template", UINT8, (batch, recipe.template_size, recipe.template_size, 3))
    target_box = template.input("target_box", FLOAT, (batch, 4)) if recipe.target_hidden else None
    shape = (batch, 2 * recipe.heads, parts.template_count, recipe.dim // recipe.heads)
    memory = FastEncoder(template, recipe, weights, batch).memory(image, target_box)
    for layer, value in memory.items():
        template.output(value, memory_name(layer), FLOAT, shape)

    track = OnnxWriter("track", weights)
    search = track.input("search", UINT8, (batch, recipe.search_size, recipe.search_size, 3))
    remembered = {layer: track.input(memory_name(layer), FLOAT, shape) for layer in memory}
    tokens = FastEncoder(track, recipe, weights, batch).encode(search, remembered)
    box, score = FastHead(track, parts, weights, batch).predict(tokens, None)
    track.output(box, "box", FLOAT, (batch, 4))
    track.output(score, "score", FLOAT, (batch,))
    return template.model({}), track.model({})


def memory_name(layer: int) -> str:
    """What the graphs call the keys and values of the template in an interaction layer."""
    return f"memory_kv.{layer}"


class FastEncoder(Blocks):
    """Writes the encoder of a recipe and its weights for a fixed batch."""

    def __init__(self, graph: OnnxWriter, recipe: Recipe, weights: Weights, batch: int) -> None:
        super().__init__(graph, recipe.one_stream, weights, batch)
        self.first_interaction = recipe.feature_layers

    def memory(self, template: Value, target_box: Value | None) -> dict[int, Value]:
        """Interaction layer → its keys and values of the template, B×2·heads×Nz×d."""
        recipe, batch = self.recipe, self.batch
        count = recipe.template_count
        tokens = self.embed(template, recipe.template_side, "backbone.pos_embed_z", "template_embed")
        if target_box is not None:
            tokens = concat([self.target_token(target_box), tokens], 1, "context")
        context = count + (target_box is not None)
        x = tokens.reshape(batch * context, recipe.dim, name="rows")
        for block in range(recipe.depth):
            x = self._alone(x, block, context)
        if target_box is not None:
            x = x.reshape(batch, context, recipe.dim, name="with_token").slice(1, context, axis=1, name="z")
            x = x.reshape(batch * count, recipe.dim, name="z_rows")
        memory = {}
        for block in range(self.first_interaction, recipe.depth):
            with self.graph.scope(f"blocks.{block}/template"), self.graph.role("int8"):
                normed = self.norm(x, f"blocks.{block}.norm1", "norm1")
                keys_values = fold_attention(self.weights, recipe, block).qkv[:, recipe.dim :]
                kv = linear(normed, np.ascontiguousarray(keys_values), None, "attn/kv")
                memory[block] = self.heads(kv, count, "attn/heads", parts=2)
        return memory

    def encode(self, search: Value, memory: Mapping[int, Value]) -> Value:
        """The search tokens after all blocks: (B·n²)×D rows of uint8 crops B×Sx×Sx×3."""
        recipe = self.recipe
        count = recipe.search_count
        x = self.embed(search, recipe.search_side, "backbone.pos_embed_x", "search_embed")
        x = x.reshape(self.batch * count, recipe.dim, name="rows")
        for block in range(self.first_interaction):
            x = self._alone(x, block, count)
        for block, remembered in memory.items():
            x = self._interact(x, block, count, remembered)
        return x

    def _alone(self, x: Value, block: int, count: int) -> Value:
        """A block of (B·count)×D rows that see each other."""
        folded = fold_attention(self.weights, self.recipe, block)
        with self.graph.scope(f"blocks.{block}"), self.graph.role("int8"):
            q, k, v = self.split(self.qkv(x, block, folded, count), 3)
            return self.mlp(self.attend(x, q, k, v, folded), block)

    def _interact(self, x: Value, block: int, count: int, remembered: Value) -> Value:
        """A block of (B·count)×D rows that see the template as well."""
        folded = fold_attention(self.weights, self.recipe, block)
        heads = self.recipe.heads
        with self.graph.scope(f"blocks.{block}"), self.graph.role("int8"):
            own = self.qkv(x, block, folded, count)
            q, kv = own.split([heads, 2 * heads], axis=1, names=("search/q", "search/kv"))
            k, v = self.split(concat([remembered, kv], 2, "attn/kv"), 2)
            return self.mlp(self.attend(x, q, k, v, folded), block)
