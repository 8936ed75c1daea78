"""The parts of a one-stream encoder in its exact fast form, for whoever puts them together.

Tokens are rows of a (B·N)×D matrix, sample by sample: every linear is one matrix product and choosing tokens
is a Gather with a 1-D index.
"""

from __future__ import annotations

from jntrt.export.families.ostrack.fast.fold import (
    FoldedAttention,
    Weights,
    fold_mlp,
    fold_patch_embedding,
)
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.layers import layer_norm, linear
from jntrt.export.onnx.value import Value
from jntrt.export.onnx.writer import OnnxWriter


class Blocks:
    """Writes tokens and transformer blocks of a recipe and its weights for a fixed batch."""

    def __init__(self, graph: OnnxWriter, recipe: Recipe, weights: Weights, batch: int) -> None:
        self.graph, self.recipe, self.weights, self.batch = graph, recipe, weights, batch
        self.head_dim = recipe.dim // recipe.heads

    # ---- tokens

    def embed(self, image: Value, side: int, positions: str, place: str) -> Value:
        """uint8 B×S×S×3 → B×side²×D: patches as rows, one matrix product, position and bias."""
        graph, p = self.graph, self.recipe.patch
        matrix, shift = fold_patch_embedding(self.weights, positions)
        with graph.scope(place):
            x = image.float().reshape(self.batch, side, p, side, 3 * p, name="grid")
            x = x.transpose(0, 1, 3, 2, 4, name="patches")
            x = x.reshape(self.batch, side * side, 3 * p * p, name="flat")
            x = x @ graph.constant(matrix, "/patch_embed/weight")
            return (x + graph.constant(shift, "position")).named(f"/{place}")

    def target_token(self, box: Value) -> Value:
        """The target-indicating token of a B×4 box: B×1×D."""
        w, name = self.weights, "target_token_embed"
        with self.graph.scope(name):
            x = linear(box, w[f"{name}.fc1.weight"].T, w[f"{name}.fc1.bias"], "fc1").gelu()
            x = linear(x, w[f"{name}.fc2.weight"].T, w[f"{name}.fc2.bias"], "fc2")
            return x.reshape(self.batch, 1, self.recipe.dim, name="token")

    # ---- a block

    def qkv(self, rows: Value, block: int, folded: FoldedAttention, count: int) -> Value:
        """norm1 and qkv of (B·count)×D rows: B×3·heads×count×d."""
        normed = self.norm(rows, f"blocks.{block}.norm1", "norm1")
        qkv = linear(normed, folded.qkv, folded.qkv_bias, "attn/qkv")
        return self.heads(qkv, count, "attn/heads", parts=3)

    def norm(self, x: Value, weights: str, name: str) -> Value:
        weights = f"backbone.{weights}"
        return layer_norm(x, self.weights[f"{weights}.weight"], self.weights[f"{weights}.bias"], name)

    def heads(self, rows: Value, count: int, name: str, parts: int = 1) -> Value:
        """(B·count)×(parts·D) → B×parts·heads×count×d: parts lie on the head axis."""
        x = rows.reshape(self.batch, count, parts * self.recipe.heads, self.head_dim, name=f"{name}/tokens")
        return x.transpose(0, 2, 1, 3, name=name)

    def split(self, heads: Value, parts: int) -> list[Value]:
        """q, k and v of three parts, k and v of two: B×heads×count×d each."""
        names = ("q_heads", "k_heads", "v_heads") if parts == 3 else ("k", "v")
        with self.graph.scope("attn"):
            return heads.split([self.recipe.heads] * parts, axis=1, names=names)

    def attend(self, x: Value, q: Value, k: Value, v: Value, folded: FoldedAttention) -> Value:
        """x + proj(softmax(q·kᵀ)·v); x holds the same tokens as q."""
        with self.graph.scope("attn"):
            scores = (q @ k.transpose(0, 1, 3, 2, name="keys")).named("scores")
            mixed = (scores.softmax(-1) @ v).named("values")
            rows = mixed.transpose(0, 2, 1, 3, name="merge").reshape(-1, self.recipe.dim, name="rows")
            update = linear(rows, folded.proj, folded.proj_bias, "proj")
        return (x + update).named("attn")

    def mlp(self, x: Value, block: int) -> Value:
        """x + fc2(gelu(fc1(norm2(x))))."""
        folded = fold_mlp(self.weights, self.recipe, block)
        y = self.norm(x, f"blocks.{block}.norm2", "norm2")
        with self.graph.scope("mlp"):
            y = linear(y, folded.fc1, folded.fc1_bias, "fc1").gelu()
            y = linear(y, folded.fc2, folded.fc2_bias, "fc2")
        return (x + y).named("mlp")
