"""The heads in their exact fast form, with decoding: kept tokens → box and score.

Head from kept tokens: dropped cells are zero, so that the first convolution of all branches is one matrix
product over the kept tokens (9 taps at once) and a sum over 9 neighbours, where a dropped or outer one is the
zero row. What only the chosen cell needs (size, distances) is decoded there alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jntrt.export.families.ostrack.fold import Weights, fold_conv
from jntrt.export.families.ostrack.heads import HEADS, hann
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.ops import Ops, Value, integers, linear, reshape, take_rows
from numpy.typing import NDArray


class FastHead:
    """Writes the head of a recipe and its weights for a fixed batch."""

    def __init__(self, ops: Ops, recipe: Recipe, weights: Weights, batch: int) -> None:
        self.ops, self.recipe, self.weights, self.batch = ops, recipe, weights, batch
        self.side, self.cells = recipe.search_side, recipe.search_count
        self.branches = HEADS[recipe.head].branches

    def predict(self, tokens: Value, cells: Value | None) -> tuple[Value, Value]:
        """(B·K)×D tokens at B×K cells (None: the whole map) → `box` B×4 and `score` B."""
        maps = self._branches(self._first_convolution(tokens, cells))
        decode = {"center": self._center, "corner": self._corner, "distribution": self._distribution}
        return decode[self.recipe.head](maps)

    # ---- convolutions

    def _first_convolution(self, tokens: Value, cells: Value | None) -> Value:
        """conv1, batch norm and ReLU of all branches: B×(branches·C)×n×n."""
        ops, n, dim = self.ops, self.side, self.recipe.dim
        kernels, biases = zip(
            *(fold_conv(self.weights, f"box_head.conv1_{b}") for b in self.branches), strict=True
        )
        kernel, bias = np.concatenate(kernels), np.concatenate(biases)  # (branches·C)×D×3×3
        width = len(bias)
        if cells is None:
            x = reshape(ops, tokens, (self.batch, self.cells, dim), "head/tokens")
            x = ops.op("Transpose", x, place="head/channels", perm=[0, 2, 1])
            x = reshape(ops, x, (self.batch, dim, n, n), "head/map")
            x = self._convolution(x, kernel, bias, "head/conv1")
            return ops.op("Relu", x, place="head/conv1/relu")
        zero = ops.constant(np.zeros((1, dim), np.float32), "head/zero_row")
        x = ops.op("Concat", tokens, zero, place="head/tokens", axis=0)
        taps = kernel.transpose(1, 2, 3, 0).reshape(dim, 9 * width)  # D×(tap·channel)
        x = linear(ops, x, np.ascontiguousarray(taps), None, "head/conv1/taps")
        x = reshape(ops, x, (-1, width), "head/conv1/tap_rows")
        x = take_rows(ops, x, self._neighbours(cells), "head/conv1/neighbours")
        x = reshape(ops, x, (self.batch, self.cells, 9, width), "head/conv1/by_cell")
        x = ops.op("ReduceSum", x, integers(ops, [2], "head/conv1/axis"), place="head/conv1/sum", keepdims=0)
        x = ops.op("Add", x, ops.constant(bias, "head/conv1/bias"), place="head/conv1")
        x = ops.op("Relu", x, place="head/conv1/relu")
        x = ops.op("Transpose", x, place="head/channels", perm=[0, 2, 1])
        return reshape(ops, x, (self.batch, width, n, n), "head/map")

    def _neighbours(self, cells: Value) -> Value:
        """For every cell and tap, the row that the tap adds there: 1-D, B·n²·9.

        Rows are token·9 + tap; the last token is the zero row, for cells dropped or outside.
        """
        ops, n, batch = self.ops, self.side, self.batch
        keep = list(self.recipe.keep_counts.values())[-1]
        zero = 9 * batch * keep
        column = reshape(ops, cells, (batch, 1, keep), "head/kept")
        here = ops.op(
            "Equal",
            column,
            integers(ops, np.arange(self.cells)[None, :, None], "head/all_cells"),
            place="head/is_kept",
        )
        token = 9 * np.arange(batch * keep).reshape(batch, 1, keep)
        row = ops.op(
            "Where",
            here,
            integers(ops, token, "head/token_row"),
            integers(ops, [zero], "head/zero_index"),
            place="head/row_of_kept",
        )
        row = ops.op("ReduceMin", row, integers(ops, [2], "head/row_axis"), place="head/row", keepdims=0)
        outside = integers(ops, np.full((batch, 1), zero), "head/outside")
        row = ops.op("Concat", row, outside, place="head/row_or_outside", axis=1)
        row = reshape(ops, row, (-1,), "head/row_flat")
        table = neighbour_table(n)
        per_sample = np.arange(batch)[:, None, None] * (self.cells + 1) + table
        row = take_rows(
            ops, row, integers(ops, per_sample.reshape(-1), "head/neighbour_cells"), "head/neighbour_row"
        )
        tap = np.tile(np.arange(9), batch * self.cells)
        return ops.op("Add", row, integers(ops, tap, "head/tap"), place="head/neighbour_index")

    def _branches(self, x: Value) -> dict[str, Value]:
        """conv2 … conv5 of every branch: B×outputs×n×n."""
        ops, c = self.ops, self.recipe.head_channels
        sizes = integers(ops, [c] * len(self.branches), "head/branch_sizes")
        parts = ops.many("Split", x, sizes, places=[f"head/{b}/conv1" for b in self.branches], axis=1)
        maps = {}
        for branch, y in zip(self.branches, parts, strict=True):
            for k in (2, 3, 4):
                place = f"head/{branch}/conv{k}"
                y = self._convolution(y, *fold_conv(self.weights, f"box_head.conv{k}_{branch}"), place)
                y = ops.op("Relu", y, place=f"{place}/relu")
            name = f"box_head.conv5_{branch}"
            maps[branch] = self._convolution(
                y, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], f"head/{branch}/conv5"
            )
        return maps

    def _convolution(self, x: Value, kernel: NDArray[Any], bias: NDArray[Any], place: str) -> Value:
        side = kernel.shape[-1]
        return self.ops.op(
            "Conv",
            x,
            self.ops.constant(kernel, f"{place}/weight"),
            self.ops.constant(bias, f"{place}/bias"),
            place=place,
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
        )

    # ---- decoding

    def _center(self, maps: dict[str, Value]) -> tuple[Value, Value]:
        ops = self.ops
        score = self._probability(maps["ctr"], "head/score_map")
        cell, score_at = self._choose(score)
        corner = take_rows(ops, self._cell_table(0.0), self._choice, "head/cell")
        centre = ops.op(
            "Add", corner, self._at(maps["offset"], 2, cell, "head/offset"), place="head/centre_cells"
        )
        n = ops.constant(np.float32(self.side), "head/side")
        centre = ops.op("Div", centre, n, place="head/centre")
        size = self._probability(self._at(maps["size"], 2, cell, "head/size_logits"), "head/size")
        return ops.op("Concat", centre, size, place="box", axis=1), score_at

    def _corner(self, maps: dict[str, Value]) -> tuple[Value, Value]:
        ops, b = self.ops, self.batch
        both = ops.op("Concat", maps["tl"], maps["br"], place="head/logits", axis=1)
        flat = reshape(ops, both, (b, 2, self.cells), "head/flat")
        flat = ops.op("Softmax", flat, place="head/softmax", axis=-1)
        probability = reshape(ops, flat, (b, 2, self.side, self.side), "head/score_map")
        flat = reshape(ops, probability, (b, 2, self.cells), "head/probability")
        table = ops.constant(self._grid(0.0) / np.float32(self.side), "head/cell_table")
        corners = reshape(ops, ops.op("MatMul", flat, table, place="head/corners"), (b, 4), "head/xyxy")
        # x1, y1, x2, y2 → cx, cy, w, h
        turn = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
        box = ops.op("MatMul", corners, ops.constant(turn, "head/to_cxcywh"), place="box")
        peaks = ops.op(
            "ReduceMax", flat, integers(ops, [2], "head/peak_axis"), place="head/peaks", keepdims=0
        )
        product = ops.op(
            "ReduceProd", peaks, integers(ops, [1], "head/product_axis"), place="head/product", keepdims=0
        )
        return box, ops.op("Sqrt", product, place="score")

    def _distribution(self, maps: dict[str, Value]) -> tuple[Value, Value]:
        ops, b, bins, w = self.ops, self.batch, self.recipe.bins, self.weights
        logits = reshape(ops, maps["reg"], (b, 4 * bins, self.cells), "head/reg/flat")
        logits = ops.op("Transpose", logits, place="head/reg/by_cell", perm=[0, 2, 1])
        logits = reshape(ops, logits, (b * self.cells, 4, bins), "head/reg/sides")
        distribution = ops.op("Softmax", logits, place="head/distribution", axis=-1)
        four = integers(ops, [4], "head/quality/four")
        top, _ = ops.many(
            "TopK",
            distribution,
            four,
            places=["head/quality/top", "head/quality/top_bins"],
            axis=-1,
            largest=1,
            sorted=1,
        )
        mean = ops.op("ReduceMean", top, integers(ops, [-1], "head/quality/axis"), place="head/quality/mean")
        features = ops.op("Concat", top, mean, place="head/quality/top_mean", axis=-1)
        features = reshape(ops, features, (b * self.cells, 20), "head/quality/features")
        hidden = linear(
            ops,
            features,
            w["box_head.quality.fc1.weight"].T,
            w["box_head.quality.fc1.bias"],
            "head/quality/fc1",
        )
        hidden = ops.op("Relu", hidden, place="head/quality/relu")
        quality = linear(
            ops,
            hidden,
            w["box_head.quality.fc2.weight"].T,
            w["box_head.quality.fc2.bias"],
            "head/quality/fc2",
        )
        quality = ops.op("Sigmoid", quality, place="head/quality/sigmoid")
        quality = reshape(ops, quality, (b, 1, self.side, self.side), "head/quality")
        presence = ops.op("Sigmoid", maps["cls"], place="head/cls/sigmoid")
        cell, score = self._choose(ops.op("Mul", presence, quality, place="head/score_map"))
        chosen = take_rows(ops, distribution, cell, "head/distribution_at_cell")  # B×4×bins
        steps = ops.constant(np.arange(bins, dtype=np.float32)[:, None], "head/bins")
        distances = reshape(
            ops, ops.op("MatMul", chosen, steps, place="head/expected"), (b, 4), "head/distances"
        )
        # l, t, r, b → offset of the centre from the point, size; in units of the crop
        turn = np.array([[-0.5, 0, 1, 0], [0, -0.5, 0, 1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
        box = ops.op(
            "MatMul",
            distances,
            ops.constant(turn / np.float32(self.side), "head/to_cxcywh"),
            place="head/reach",
        )
        point = np.concatenate(
            (self._grid(0.5) / np.float32(self.side), np.zeros((self.cells, 2), np.float32)), axis=1
        )
        point_at = take_rows(ops, ops.constant(point, "head/point_table"), self._choice, "head/point")
        return ops.op("Add", point_at, box, place="box"), score

    def _choose(self, score: Value) -> tuple[Value, Value]:
        """Arg-max of score × window (first one, row-major): row numbers B in (B·n²)×…, and `score` there."""
        ops, b = self.ops, self.batch
        window = ops.constant(hann(self.side).numpy(), "head/window")
        response = ops.op("Mul", score, window, place="head/response")
        flat = reshape(ops, response, (b, self.cells), "head/response_flat")
        self._choice = ops.op("ArgMax", flat, place="head/argmax", axis=1, keepdims=0, select_last_index=0)
        cell = self._choice
        if b > 1:
            offset = integers(ops, np.arange(b) * self.cells, "head/sample_offset")
            cell = ops.op("Add", cell, offset, place="head/argmax_row")
        flat = reshape(ops, score, (b * self.cells,), "head/score_flat")
        return cell, take_rows(ops, flat, cell, "score")

    def _probability(self, logits: Value, place: str) -> Value:
        """clamp(sigmoid, 1e-4, 1 - 1e-4)."""
        ops = self.ops
        low = ops.constant(np.float32(1e-4), "head/clamp_low")
        high = ops.constant(np.float32(1 - 1e-4), "head/clamp_high")
        return ops.op("Clip", ops.op("Sigmoid", logits, place=f"{place}/sigmoid"), low, high, place=place)

    def _at(self, maps: Value, channels: int, cell: Value, place: str) -> Value:
        """B×channels×n×n maps at the chosen rows: B×channels."""
        flat = reshape(self.ops, maps, (self.batch, channels, self.cells), f"{place}/flat")
        flat = self.ops.op("Transpose", flat, place=f"{place}/by_cell", perm=[0, 2, 1])
        flat = reshape(self.ops, flat, (self.batch * self.cells, channels), f"{place}/rows")
        return take_rows(self.ops, flat, cell, place)

    def _grid(self, centre: float) -> NDArray[np.float32]:
        """x, y of every cell in cells, row-major: n²×2."""
        y, x = np.divmod(np.arange(self.cells), self.side)
        return np.stack((x, y), axis=1).astype(np.float32) + np.float32(centre)

    def _cell_table(self, centre: float) -> Value:
        return self.ops.constant(self._grid(centre), "head/cell_table")


def neighbour_table(side: int) -> NDArray[np.int64]:
    """n²×9: the cell that each tap of a padded 3×3 convolution reads; n² where that is outside the map."""
    rows, columns = np.divmod(np.arange(side * side), side)
    dy, dx = np.divmod(np.arange(9), 3)
    y, x = rows[:, None] + dy - 1, columns[:, None] + dx - 1
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    return np.where(inside, y * side + x, side * side)
