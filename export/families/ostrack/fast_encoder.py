"""The encoder in its exact fast form: equal to the plain form up to rounding, with less work.

- one-row similarity: only the chosen template rows are ranked with;
- select before attending: keys and values for all tokens that arrive, everything else for those that stay;
- search-only last layer: nothing reads the template after it;
- template first: embedding, norm and qkv of block 0 depend on the template alone, and are kept as memory.

Tokens are rows of a (B·N)×D matrix, sample by sample, the context (target-indicating token, template) first:
every linear is one matrix product and choosing tokens is a Gather with a 1-D index.
"""

from __future__ import annotations

import numpy as np
from jntrt.export.families.ostrack.encoder import template_rows
from jntrt.export.families.ostrack.fold import (
    FoldedAttention,
    Weights,
    fold_attention,
    fold_mlp,
    fold_patch_embedding,
)
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.ops import Ops, Value, integers, layer_norm, linear, reshape, take_rows
from numpy.typing import NDArray

FLOAT = 1  # onnx.TensorProto.FLOAT, without importing onnx


class FastEncoder:
    """Writes the encoder of a recipe and its weights for a fixed batch."""

    def __init__(self, ops: Ops, recipe: Recipe, weights: Weights, batch: int) -> None:
        self.ops, self.recipe, self.weights, self.batch = ops, recipe, weights, batch
        self.head_dim = recipe.dim // recipe.heads
        self.context = recipe.template_count + (recipe.target_hidden > 0)

    @property
    def template_first(self) -> bool:
        """Block 0's qkv can come from the memory: it neither eliminates nor is the last block."""
        return self.recipe.depth > 1 and 0 not in self.recipe.keep_counts

    def memory(self, template: Value, target_box: Value | None) -> dict[str, Value]:
        """What the track graph needs of a template: uint8 B×Sz×Sz×3 (and B×4) → named tensors.

        `memory_tokens` B×C×D: the embedded context; `memory_qkv` B×3·heads×C×d: its part of block 0.
        """
        ops, recipe = self.ops, self.recipe
        tokens = self._embed(template, recipe.template_side, "backbone.pos_embed_z", "template_embed")
        if recipe.target_hidden:
            w, place = self.weights, "target_token_embed"
            hidden = linear(
                ops, target_box, w[f"{place}.fc1.weight"].T, w[f"{place}.fc1.bias"], f"{place}/fc1"
            )
            hidden = ops.op("Gelu", hidden, place=f"{place}/gelu")
            token = linear(ops, hidden, w[f"{place}.fc2.weight"].T, w[f"{place}.fc2.bias"], f"{place}/fc2")
            token = reshape(ops, token, (self.batch, 1, recipe.dim), f"{place}/token")
            tokens = ops.op("Concat", token, tokens, place="context", axis=1)
        memory = {"memory_tokens": tokens}
        if self.template_first:
            memory["memory_qkv"] = self._block0_qkv(tokens, self.context, "template")
        return memory

    def encode(
        self, search: Value, memory: dict[str, Value], template_weights: Value | None
    ) -> tuple[Value, Value | None]:
        """The search tokens that stay, after the final norm: (B·K)×D rows, and their cells B×K.

        search: uint8 B×Sx×Sx×3; template_weights: B×Nz, for ranking by the box's template tokens.
        Cells are None when nothing was dropped: the rows are the map in row-major order.
        """
        ops, recipe, batch = self.ops, self.recipe, self.batch
        arriving, cells = recipe.search_count, None
        tokens = self._embed(search, recipe.search_side, "backbone.pos_embed_x", "search_embed")
        x = ops.op("Concat", memory["memory_tokens"], tokens, place="tokens", axis=1)
        x = reshape(ops, x, (batch * (self.context + arriving), recipe.dim), "rows")
        for block in range(recipe.depth):
            place, folded = f"blocks.{block}", fold_attention(self.weights, recipe, block)
            count, keep = self.context + arriving, recipe.keep_counts.get(block)
            last = block == recipe.depth - 1
            if block == 0 and self.template_first:
                own = self._block0_qkv(tokens, arriving, "search")
                heads = ops.op("Concat", memory["memory_qkv"], own, place=f"{place}/attn/heads", axis=2)
                q, k, v = self._split(heads, "qkv", f"{place}/attn")
            elif keep is None and not last:
                normed = self._norm(x, f"backbone.{place}.norm1", f"{place}/norm1")
                qkv = linear(ops, normed, folded.qkv, folded.qkv_bias, f"{place}/attn/qkv")
                q, k, v = self._split(
                    self._heads(qkv, count, 3, f"{place}/attn/heads"), "qkv", f"{place}/attn"
                )
            else:
                normed = self._norm(x, f"backbone.{place}.norm1", f"{place}/norm1")
                kv = linear(ops, normed, folded.kv, None, f"{place}/attn/kv")
                k, v = self._split(self._heads(kv, count, 2, f"{place}/attn/heads"), "kv", f"{place}/attn")
                if keep is not None:
                    similarity = self._similarity(normed, k, count, folded, template_weights, place)
                    order, cells = self._rank(similarity, cells, arriving, keep, place)
                    stay = self._staying(order, count, last, place)
                    arriving = keep
                else:
                    stay = integers(
                        ops, self._rows(range(self.context, count), count), f"{place}/search_rows"
                    )
                count_q = arriving + (0 if last else self.context)
                x = take_rows(ops, x, stay, f"{place}/stay")
                chosen = take_rows(ops, normed, stay, f"{place}/attn/stay")
                q = linear(ops, chosen, folded.q, folded.q_bias, f"{place}/attn/q")
                q = self._heads(q, count_q, 1, f"{place}/attn/q_heads")
            x = self._attend(x, q, k, v, folded, place)
            x = self._mlp(x, block, place)
        return self._norm(x, "backbone.norm", "norm"), cells

    def _embed(self, image: Value, side: int, positions: str, place: str) -> Value:
        """uint8 B×S×S×3 → B×side²×D: patches as rows, one matrix product, position and bias."""
        ops, p = self.ops, self.recipe.patch
        matrix, shift = fold_patch_embedding(self.weights, positions)
        x = ops.op("Cast", image, place=f"{place}/cast", to=FLOAT)
        x = reshape(ops, x, (self.batch, side, p, side, 3 * p), f"{place}/grid")
        x = ops.op("Transpose", x, place=f"{place}/patches", perm=[0, 1, 3, 2, 4])
        x = reshape(ops, x, (self.batch, side * side, 3 * p * p), f"{place}/flat")
        x = ops.op("MatMul", x, ops.constant(matrix, "patch_embed/weight"), place=f"{place}/matmul")
        return ops.op("Add", x, ops.constant(shift, f"{place}/position"), place=place)

    def _block0_qkv(self, tokens: Value, count: int, part: str) -> Value:
        """norm1 and qkv of block 0 for B×count×D tokens: B×3·heads×count×d."""
        place, folded = f"blocks.0/{part}", fold_attention(self.weights, self.recipe, 0)
        rows = reshape(self.ops, tokens, (self.batch * count, self.recipe.dim), f"{place}/rows")
        normed = self._norm(rows, "backbone.blocks.0.norm1", f"{place}/norm1")
        qkv = linear(self.ops, normed, folded.qkv, folded.qkv_bias, f"{place}/attn/qkv")
        return self._heads(qkv, count, 3, f"{place}/attn/heads")

    def _norm(self, x: Value, name: str, place: str) -> Value:
        return layer_norm(self.ops, x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], place)

    def _heads(self, rows: Value, count: int, parts: int, place: str) -> Value:
        """(B·count)×(parts·D) → B×parts·heads×count×d: parts lie on the head axis."""
        shape = (self.batch, count, parts * self.recipe.heads, self.head_dim)
        x = reshape(self.ops, rows, shape, f"{place}/tokens")
        return self.ops.op("Transpose", x, place=place, perm=[0, 2, 1, 3])

    def _split(self, heads: Value, parts: str, place: str) -> list[Value]:
        sizes = integers(self.ops, [self.recipe.heads] * len(parts), f"{place}/split/sizes")
        places = [f"{place}/{part}" for part in parts]
        if "q" not in parts:
            return self.ops.many("Split", heads, sizes, places=places, axis=1)
        return self.ops.many(
            "Split", heads, sizes, places=[f"{place}/{part}_heads" for part in parts], axis=1
        )

    def _attend(self, x: Value, q: Value, k: Value, v: Value, folded: FoldedAttention, place: str) -> Value:
        """x + proj(softmax(q·kᵀ)·v); x holds the same tokens as q."""
        ops = self.ops
        keys = ops.op("Transpose", k, place=f"{place}/attn/keys", perm=[0, 1, 3, 2])
        scores = ops.op("MatMul", q, keys, place=f"{place}/attn/scores")
        weights = ops.op("Softmax", scores, place=f"{place}/attn/softmax", axis=-1)
        mixed = ops.op("MatMul", weights, v, place=f"{place}/attn/values")
        mixed = ops.op("Transpose", mixed, place=f"{place}/attn/merge", perm=[0, 2, 1, 3])
        mixed = reshape(ops, mixed, (-1, self.recipe.dim), f"{place}/attn/rows")
        update = linear(ops, mixed, folded.proj, folded.proj_bias, f"{place}/attn/proj")
        return ops.op("Add", x, update, place=f"{place}/attn")

    def _mlp(self, x: Value, block: int, place: str) -> Value:
        ops, folded = self.ops, fold_mlp(self.weights, self.recipe, block)
        y = self._norm(x, f"backbone.blocks.{block}.norm2", f"{place}/norm2")
        y = linear(ops, y, folded.fc1, folded.fc1_bias, f"{place}/mlp/fc1")
        y = ops.op("Gelu", y, place=f"{place}/mlp/gelu")
        y = linear(ops, y, folded.fc2, folded.fc2_bias, f"{place}/mlp/fc2")
        return ops.op("Add", x, y, place=f"{place}/mlp")

    def _similarity(
        self,
        normed: Value,
        k: Value,
        count: int,
        folded: FoldedAttention,
        template_weights: Value | None,
        place: str,
    ) -> Value:
        """Mean attention of the chosen template rows to each search token that arrived: B×n (OSTrack, eq. 4).

        The rows are recomputed: a second reader of the full softmax would break its fusion in TensorRT.
        """
        ops, recipe, place = self.ops, self.recipe, f"{place}/ce"
        rows = template_rows(recipe)
        chosen = np.arange(recipe.template_count) if rows is None else np.flatnonzero(rows.numpy())
        first = self.context - recipe.template_count
        index = integers(ops, self._rows(first + chosen, count), f"{place}/template_rows")
        q = take_rows(ops, normed, index, f"{place}/template")
        q = linear(ops, q, folded.q, folded.q_bias, f"{place}/q")
        q = self._heads(q, len(chosen), 1, f"{place}/q_heads")
        keys = ops.op("Transpose", k, place=f"{place}/keys", perm=[0, 1, 3, 2])
        scores = ops.op("MatMul", q, keys, place=f"{place}/scores")
        scores = ops.op("Softmax", scores, place=f"{place}/softmax", axis=-1)
        if rows is None:
            axes = integers(ops, [1], f"{place}/mean/axes")
            mean = ops.op("ReduceMean", scores, axes, place=f"{place}/mean", keepdims=0)
            weights = reshape(ops, template_weights, (self.batch, 1, len(chosen)), f"{place}/weights")
            mean = reshape(
                ops,
                ops.op("MatMul", weights, mean, place=f"{place}/weighted"),
                (self.batch, count),
                f"{place}/row",
            )
        else:
            axes = integers(ops, [1, 2], f"{place}/mean/axes")
            mean = ops.op("ReduceMean", scores, axes, place=f"{place}/mean", keepdims=0)
        bounds = [
            integers(ops, [i], f"{place}/slice/{n}") for n, i in (("from", self.context), ("to", count))
        ]
        return ops.op(
            "Slice", mean, *bounds, integers(ops, [1], f"{place}/slice/axis"), place=f"{place}/similarity"
        )

    def _rank(
        self, similarity: Value, cells: Value | None, arriving: int, keep: int, place: str
    ) -> tuple[Value, Value]:
        """The tokens to keep, B×keep: positions among the search tokens that arrived, and cells."""
        ops, batch, kept = self.ops, self.batch, f"{place}/ce/kept"
        attributes = {"axis": 1, "largest": 1, "sorted": 0}
        k = integers(ops, [keep], f"{place}/ce/keep")
        if cells is None:
            _, order = ops.many(
                "TopK", similarity, k, places=[f"{place}/ce/kept_similarity", kept], **attributes
            )
            return order, order
        _, order = ops.many(
            "TopK", similarity, k, places=[f"{place}/ce/kept_similarity", f"{place}/ce/order"], **attributes
        )
        flat = reshape(ops, cells, (batch * arriving,), f"{place}/ce/cells")
        index = self._offset(order, np.arange(batch)[:, None] * arriving, f"{place}/ce/cell_index")
        index = reshape(ops, index, (batch * keep,), f"{place}/ce/cell_rows")
        chosen = take_rows(ops, flat, index, f"{place}/ce/kept_cells")
        return order, reshape(ops, chosen, (batch, keep), kept)

    def _staying(self, order: Value, count: int, last: bool, place: str) -> Value:
        """1-D index of the rows that stay: the context (unless nothing reads it again), the kept tokens."""
        offset = np.arange(self.batch)[:, None] * count + self.context
        stay = self._offset(order, offset, f"{place}/ce/kept_rows")
        if not last:
            context = self._rows(range(self.context), count).reshape(self.batch, -1)
            stay = self.ops.op(
                "Concat",
                integers(self.ops, context, f"{place}/ce/context_rows"),
                stay,
                place=f"{place}/ce/rows",
                axis=1,
            )
        return reshape(self.ops, stay, (-1,), f"{place}/ce/index")

    def _rows(self, tokens: range | NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Row numbers, sample by sample, of the same tokens of every sample: 1-D."""
        rows: NDArray[np.int64] = np.arange(self.batch)[:, None] * count + np.asarray(tokens)[None]
        return rows.reshape(-1)

    def _offset(self, index: Value, offset: NDArray[np.int64], place: str) -> Value:
        """index + offset (B×1), left out where that is zero for every sample."""
        if not offset.any():
            return index
        return self.ops.op("Add", index, integers(self.ops, offset, f"{place}/offset"), place=place)
