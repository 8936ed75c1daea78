"""The encoder in its exact fast form: equal to the plain form up to rounding, with less work.

- one-row similarity: only the chosen template rows are ranked with;
- select before attending: one qkv product for all tokens that arrive, everything else for those that stay
  (queries of the dropped are half a per cent of the work and spare a GPU some seven launches a block);
- search-only last layer: nothing reads the template after it;
- template first: embedding, norm and qkv of block 0 depend on the template alone, and are kept as memory.

Of every sample's tokens the context (target-indicating token, template) comes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jntrt.export.families.ostrack.fast.blocks import Blocks
from jntrt.export.families.ostrack.fast.fold import Weights, fold_attention
from jntrt.export.families.ostrack.plain.encoder import template_rows
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.layers import concat
from jntrt.export.onnx.value import Value
from jntrt.export.onnx.writer import OnnxWriter


class FastEncoder(Blocks):
    """Writes the encoder of a recipe and its weights for a fixed batch."""

    def __init__(self, graph: OnnxWriter, recipe: Recipe, weights: Weights, batch: int) -> None:
        super().__init__(graph, recipe, weights, batch)
        self.context = recipe.template_count + (recipe.target_hidden > 0)

    @property
    def template_first(self) -> bool:
        """Block 0's qkv can come from the memory: it neither eliminates nor is the last block."""
        return self.recipe.depth > 1 and 0 not in self.recipe.keep_counts

    def memory(self, template: Value, target_box: Value | None) -> dict[str, Value]:
        """What the track graph needs of a template: uint8 B×Sz×Sz×3 (and B×4) → named tensors.

        `memory_tokens` B×C×D: the embedded context; `memory_qkv` B×3·heads×C×d: its part of block 0.
        """
        tokens = self.embed(template, self.recipe.template_side, "backbone.pos_embed_z", "template_embed")
        if target_box is not None:
            tokens = concat([self.target_token(target_box), tokens], 1, "context")
        memory = {"memory_tokens": tokens}
        if self.template_first:
            with self.graph.scope("blocks.0/template"), self.graph.role("int8"):
                rows = tokens.reshape(self.batch * self.context, self.recipe.dim, name="rows")
                folded = fold_attention(self.weights, self.recipe, 0)
                memory["memory_qkv"] = self.qkv(rows, 0, folded, self.context)
        return memory

    def encode(
        self, search: Value, memory: dict[str, Value], template_weights: Value | None
    ) -> tuple[Value, Value | None]:
        """The search tokens that stay, after the final norm: (B·K)×D rows, and their cells B×K.

        search: uint8 B×Sx×Sx×3; template_weights: B×Nz, for ranking by the box's template tokens.
        Cells are None when nothing was dropped: the rows are the map in row-major order.
        """
        graph, recipe, batch = self.graph, self.recipe, self.batch
        arriving, cells = recipe.search_count, None
        tokens = self.embed(search, recipe.search_side, "backbone.pos_embed_x", "search_embed")
        x = concat([memory["memory_tokens"], tokens], 1, "tokens")
        x = x.reshape(batch * (self.context + arriving), recipe.dim, name="rows")
        for block in range(recipe.depth):
            folded = fold_attention(self.weights, recipe, block)
            count, keep = self.context + arriving, recipe.keep_counts.get(block)
            last = block == recipe.depth - 1
            with graph.scope(f"blocks.{block}"), graph.role("int8"):
                if block == 0 and self.template_first:
                    with graph.scope("search"):
                        rows = tokens.reshape(batch * arriving, recipe.dim, name="rows")
                        own = self.qkv(rows, 0, folded, arriving)
                    q, k, v = self.split(concat([memory["memory_qkv"], own], 2, "attn/heads"), 3)
                else:
                    q, k, v = self.split(self.qkv(x, block, folded, count), 3)
                if keep is not None:
                    with graph.scope("ce"):
                        similarity = self._similarity(q, k, count, template_weights)
                        order, cells = self._rank(similarity, cells, arriving, keep)
                        x, q = self._staying(x, q, order, keep, count, last)
                    arriving = keep
                elif last:
                    x, q = self._search_only(x, q, count)
                x = self.attend(x, q, k, v, folded)
                x = self.mlp(x, block)
        return self.norm(x, "norm", "norm"), cells

    # ---- candidate elimination

    def _similarity(self, q: Value, k: Value, count: int, template_weights: Value | None) -> Value:
        """Mean attention of the chosen template rows to each search token that arrived: B×n (OSTrack, eq. 4).

        The rows are recomputed: a second reader of the full softmax would break its fusion in TensorRT.
        """
        graph, recipe = self.graph, self.recipe
        rows = template_rows(recipe)
        chosen = np.arange(recipe.template_count) if rows is None else np.flatnonzero(rows.numpy())
        first = self.context - recipe.template_count
        if rows is not None and len(chosen) == 1:
            # One row as element-wise products and a sum, which TensorRT fuses with the softmax after it.
            row = first + int(chosen[0])
            scores = (
                (q.slice(row, row + 1, axis=2, name="q_row") * k).named("products").sum(-1, name="scores")
            )
        else:
            picked = q.take(graph.integers(first + chosen, "template_rows"), axis=2, name="q_heads")
            with graph.role(None):
                scores = (picked @ k.transpose(0, 1, 3, 2, name="keys")).named("scores")
        with graph.role("float32"):
            scores = scores.softmax(-1)
            scores = scores.slice(self.context, count, axis=-1)
            if rows is None:
                assert template_weights is not None
                mean = scores.mean([1])
                weights = template_weights.reshape(self.batch, 1, len(chosen), name="weights")
                arriving = count - self.context
                return (weights @ mean).named("weighted").reshape(self.batch, arriving, name="similarity")
            return scores.mean([1] if len(chosen) == 1 else [1, 2], name="similarity")

    def _rank(self, similarity: Value, cells: Value | None, arriving: int, keep: int) -> tuple[Value, Value]:
        """The tokens to keep, B×keep: positions among the search tokens that arrived, and cells."""
        graph, batch = self.graph, self.batch
        indices = "kept" if cells is None else "order"
        with graph.role("float32"):
            k = graph.integers([keep], "keep")
            _, order = similarity.top_k(k, axis=1, ordered=False, names=("kept_similarity", indices))
        if cells is None:
            return order, order.marked("kept")
        cells = cells.reshape(batch * arriving, name="cells")
        index = self._offset(order, np.arange(batch)[:, None] * arriving, "cell_index")
        kept = cells.take(index.reshape(batch * keep, name="cell_rows"), name="kept_cells")
        return order, kept.reshape(batch, keep, name="kept").marked("kept")

    def _staying(
        self, x: Value, q: Value, order: Value, keep: int, count: int, last: bool
    ) -> tuple[Value, Value]:
        """The rows of x and q that stay: the context (unless nothing reads it again), the kept tokens."""
        stay = keep if last else self.context + keep
        tokens = self._offset(order, np.full((1, 1), self.context), "kept_tokens")
        if not last:
            context = np.tile(np.arange(self.context), (self.batch, 1))
            tokens = concat([self.graph.integers(context, "context_tokens"), tokens], 1, "tokens")
        return self._pick(x, q, tokens, stay, count)

    def _search_only(self, x: Value, q: Value, count: int) -> tuple[Value, Value]:
        """The rows of x and q that are search tokens."""
        x = x.reshape(self.batch, count, self.recipe.dim, name="by_sample")
        x = x.slice(self.context, count, axis=1, name="search").reshape(-1, self.recipe.dim, name="stay")
        return x, q.slice(self.context, count, axis=2, name="attn/stay")

    def _pick(self, x: Value, q: Value, tokens: Value, stay: int, count: int) -> tuple[Value, Value]:
        """The rows of x (B·count×D) and q (B×heads×count×d) at `tokens` (B×stay, places in their sample)."""
        batch, heads = self.batch, self.recipe.heads
        samples = np.arange(batch)[:, None] * count
        rows = self._offset(tokens, samples, "kept_rows").reshape(batch * stay, name="index")
        x = x.take(rows, name="stay")
        with self.graph.scope("attn"):
            if batch == 1:
                return x, q.take(rows, axis=2, name="stay")
            # Each sample has tokens of its own, and a Gather one index: samples and heads become rows.
            starts = np.arange(batch * heads).reshape(batch, heads, 1) * count
            index = tokens.reshape(batch, 1, stay, name="tokens") + self.graph.integers(starts, "starts")
            q = q.reshape(batch * heads * count, self.head_dim, name="q_rows")
            q = q.take(index.reshape(batch * heads * stay, name="index"), name="stay_rows")
            return x, q.reshape(batch, heads, stay, self.head_dim, name="stay")

    def _offset(self, index: Value, offset: NDArray[np.int64], name: str) -> Value:
        """index + offset (B×1 or 1×1), left out where that is zero for every sample."""
        if not offset.any():
            return index
        return (index + self.graph.integers(offset, f"{name}/offset")).named(name)
