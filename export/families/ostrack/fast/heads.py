"""The heads in their exact fast form, with decoding: kept tokens → box and score.

Head from kept tokens: dropped cells are zero, so that the first convolution of all branches is one matrix
product over the kept tokens (9 taps at once) and a sum over 9 neighbours, where a dropped or outer one is the
zero row. What only the chosen cell needs (size, distances) is decoded there alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jntrt.export.families.ostrack.fast.fold import Weights, fold_conv
from jntrt.export.families.ostrack.plain.heads import HEADS, hann
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.layers import concat, convolution, linear, where
from jntrt.export.onnx.value import Value
from jntrt.export.onnx.writer import OnnxWriter


class FastHead:
    """Writes the head of a recipe and its weights for a fixed batch."""

    def __init__(
        self, graph: OnnxWriter, recipe: Recipe, weights: Weights, batch: int, *, from_map: bool = False
    ) -> None:
        """from_map: the kept tokens go back to their cells and are convolved there; for a GPU to compare."""
        self.graph, self.recipe, self.weights, self.batch = graph, recipe, weights, batch
        self.from_map = from_map
        self.side, self.cells = recipe.search_side, recipe.search_count
        self.branches = HEADS[recipe.head].branches

    def predict(self, tokens: Value, cells: Value | None) -> tuple[Value, Value]:
        """(B·K)×D tokens at B×K cells (None: the whole map) → `box` B×4 and `score` B."""
        decode = {"center": self._center, "corner": self._corner, "distribution": self._distribution}
        with self.graph.scope("head"):
            maps = self._branches(self._first_convolution(tokens, cells))
            with self.graph.role("float32"):
                return decode[self.recipe.head](maps)

    # ---- convolutions

    def _first_convolution(self, tokens: Value, cells: Value | None) -> Value:
        """conv1, batch norm and ReLU of all branches: B×(branches·C)×n×n."""
        graph, n, dim = self.graph, self.side, self.recipe.dim
        kernels, biases = zip(
            *(fold_conv(self.weights, f"box_head.conv1_{b}") for b in self.branches), strict=True
        )
        kernel, bias = np.concatenate(kernels), np.concatenate(biases)  # (branches·C)×D×3×3
        width = len(bias)
        with graph.role("int8"):
            if cells is not None:
                zero = graph.constant(np.zeros((1, dim), np.float32), "zero_row")
                tokens = concat([tokens, zero], 0, "tokens")
            if cells is None or self.from_map:
                if cells is not None:
                    tokens = tokens.take(self._rows(cells, 1).reshape(-1, name="row_flat"), name="restored")
                x = tokens.reshape(self.batch, self.cells, dim, name="tokens" if cells is None else "cells")
                x = x.transpose(0, 2, 1, name="channels").reshape(self.batch, dim, n, n, name="map")
                return convolution(x, kernel, bias, "conv1").relu("conv1/relu")
            x = tokens
            taps = kernel.transpose(1, 2, 3, 0).reshape(dim, 9 * width)  # D×(tap·channel)
            x = linear(x, np.ascontiguousarray(taps), None, "conv1/taps").reshape(
                -1, width, name="conv1/tap_rows"
            )
        x = x.take(self._neighbours(cells), name="conv1/neighbours")
        x = x.reshape(self.batch, self.cells, 9, width, name="conv1/by_cell")
        x = x.sum(graph.integers([2], "conv1/axis"), name="conv1/sum")
        x = (x + graph.constant(bias, "conv1/bias")).named("conv1").relu("conv1/relu")
        return x.transpose(0, 2, 1, name="channels").reshape(self.batch, width, n, n, name="map")

    def _neighbours(self, cells: Value) -> Value:
        """For every cell and tap, the row that the tap adds there: 1-D, B·n²·9.

        Rows are token·9 + tap; the last token is the zero row, for cells dropped or outside.
        """
        graph, batch = self.graph, self.batch
        row = self._rows(cells, 9)
        outside = graph.integers(np.full((batch, 1), 9 * batch * self._keep), "outside")
        row = concat([row, outside], 1, "row_or_outside").reshape(-1, name="row_flat")
        table = np.arange(batch)[:, None, None] * (self.cells + 1) + neighbour_table(self.side)
        row = row.take(graph.integers(table.reshape(-1), "neighbour_cells"), name="neighbour_row")
        tap = graph.integers(np.tile(np.arange(9), batch * self.cells), "tap")
        return (row + tap).named("neighbour_index")

    @property
    def _keep(self) -> int:
        return list(self.recipe.keep_counts.values())[-1]

    def _rows(self, cells: Value, stride: int) -> Value:
        """For every cell the row of its token times `stride`, of the zero row where it was dropped: B×n²."""
        graph, batch, keep = self.graph, self.batch, self._keep
        kept = cells.reshape(batch, 1, keep, name="kept")
        all_cells = graph.integers(np.arange(self.cells)[None, :, None], "all_cells")
        token_row = graph.integers(stride * np.arange(batch * keep).reshape(batch, 1, keep), "token_row")
        zero = graph.integers([stride * batch * keep], "zero_index")
        row = where(kept.equals(all_cells, "is_kept"), token_row, zero, "row_of_kept")
        return row.min(graph.integers([2], "row_axis"), name="row")

    def _branches(self, x: Value) -> dict[str, Value]:
        """conv2 … conv5 of every branch: B×outputs×n×n. conv5 makes the logits, and is nothing for int8."""
        graph, w = self.graph, self.weights
        sizes = graph.integers([self.recipe.head_channels] * len(self.branches), "branch_sizes")
        parts = x.split(sizes, axis=1, names=[f"{branch}/conv1" for branch in self.branches])
        maps = {}
        for branch, y in zip(self.branches, parts, strict=True):
            with graph.scope(branch):
                for k in (2, 3, 4):
                    with graph.role("int8"):
                        y = convolution(y, *fold_conv(w, f"box_head.conv{k}_{branch}"), f"conv{k}")
                    y = y.relu(f"conv{k}/relu")
                name = f"box_head.conv5_{branch}"
                maps[branch] = convolution(y, w[f"{name}.weight"], w[f"{name}.bias"], "conv5")
        return maps

    # ---- decoding

    def _center(self, maps: dict[str, Value]) -> tuple[Value, Value]:
        """Arg-max of score × window; its cell + offset is the centre, in cells (OSTrack, §3.3)."""
        graph = self.graph
        score = self._probability(maps["ctr"], "score_map").marked("interior")
        choice, row, score_at = self._choose(score)
        corner = graph.constant(self._grid(0.0), "cell_table").take(choice, name="cell")
        centre = (corner + self._at(maps["offset"], 2, row, "offset")).named("centre_cells")
        centre = (centre / graph.constant(np.float32(self.side), "side")).named("centre")
        size = self._probability(self._at(maps["size"], 2, row, "size_logits"), "size")
        return concat([centre, size], 1, "/box"), score_at

    def _corner(self, maps: dict[str, Value]) -> tuple[Value, Value]:
        """The expected cell of either corner; the presence is √(peak · peak)."""
        graph, b = self.graph, self.batch
        logits = concat([maps["tl"], maps["br"]], 1, "logits")
        flat = logits.reshape(b, 2, self.cells, name="flat").softmax(-1)
        probability = flat.reshape(b, 2, self.side, self.side, name="score_map").marked("interior")
        flat = probability.reshape(b, 2, self.cells, name="probability")
        table = graph.constant(self._grid(0.0) / np.float32(self.side), "cell_table")
        corners = (flat @ table).named("corners").reshape(b, 4, name="xyxy")
        # x1, y1, x2, y2 → cx, cy, w, h
        turn = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
        box = (corners @ graph.constant(turn, "to_cxcywh")).named("/box")
        peaks = flat.max(graph.integers([2], "peak_axis"), name="peaks")
        return box, peaks.product(graph.integers([1], "product_axis")).sqrt("/score")

    def _distribution(self, maps: dict[str, Value]) -> tuple[Value, Value]:
        """Presence = class × quality; the box is the expected distance of every side at the chosen cell."""
        graph, b, bins = self.graph, self.batch, self.recipe.bins
        logits = maps["reg"].reshape(b, 4 * bins, self.cells, name="reg/flat")
        logits = logits.transpose(0, 2, 1, name="reg/by_cell")
        logits = logits.reshape(b * self.cells, 4, bins, name="reg/sides")
        distribution = logits.softmax(-1, "distribution")
        quality = self._quality(distribution)
        presence = maps["cls"].sigmoid("cls/sigmoid")
        choice, row, score = self._choose((presence * quality).named("score_map").marked("interior"))
        chosen = distribution.take(row, name="distribution_at_cell")  # B×4×bins
        steps = graph.constant(np.arange(bins, dtype=np.float32)[:, None], "bins")
        distances = (chosen @ steps).named("expected").reshape(b, 4, name="distances")
        # l, t, r, b → offset of the centre from the point, size; in units of the crop
        turn = np.array([[-0.5, 0, 1, 0], [0, -0.5, 0, 1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
        reach = (distances @ graph.constant(turn / np.float32(self.side), "to_cxcywh")).named("reach")
        point = np.concatenate(
            (self._grid(0.5) / np.float32(self.side), np.zeros((self.cells, 2), np.float32)), axis=1
        )
        point_at = graph.constant(point, "point_table").take(choice, name="point")
        return (point_at + reach).named("/box"), score

    def _quality(self, distribution: Value) -> Value:
        """How sharp the four distributions of a cell are, as a small MLP reads it: B×1×n×n."""
        graph, w, b = self.graph, self.weights, self.batch
        with graph.scope("quality"):
            four = graph.integers([4], "four")
            top, _ = distribution.top_k(four, axis=-1, ordered=True, names=("top", "top_bins"))
            mean = top.mean(graph.integers([-1], "axis"), keepdims=True)
            features = concat([top, mean], -1, "top_mean").reshape(b * self.cells, 20, name="features")
            fc1, fc2 = (
                (w[f"box_head.quality.{n}.weight"].T, w[f"box_head.quality.{n}.bias"]) for n in ("fc1", "fc2")
            )
            with graph.role(None):
                x = linear(linear(features, *fc1, "fc1").relu(), *fc2, "fc2")
            x = x.sigmoid()
        return x.reshape(b, 1, self.side, self.side, name="quality")

    def _choose(self, score: Value) -> tuple[Value, Value, Value]:
        """Arg-max of score × window (first one, row-major).

        The chosen cell of each sample, its row in (B·n²)×…, and `score` there: B each.
        """
        graph, b = self.graph, self.batch
        window = graph.constant(hann(self.side).numpy(), "window")
        response = (score * window).named("response")
        choice = row = response.reshape(b, self.cells, name="response_flat").argmax(1)
        if b > 1:
            offset = graph.integers(np.arange(b) * self.cells, "sample_offset")
            row = (choice + offset).named("argmax_row")
        return choice, row, score.reshape(b * self.cells, name="score_flat").take(row, name="/score")

    def _probability(self, logits: Value, name: str) -> Value:
        """clamp(sigmoid, 1e-4, 1 - 1e-4)."""
        low = self.graph.constant(np.float32(1e-4), "clamp_low")
        high = self.graph.constant(np.float32(1 - 1e-4), "clamp_high")
        return logits.sigmoid(f"{name}/sigmoid").clip(low, high, name)

    def _at(self, maps: Value, channels: int, row: Value, name: str) -> Value:
        """B×channels×n×n maps at the chosen rows: B×channels."""
        flat = maps.reshape(self.batch, channels, self.cells, name=f"{name}/flat")
        flat = flat.transpose(0, 2, 1, name=f"{name}/by_cell")
        return flat.reshape(self.batch * self.cells, channels, name=f"{name}/rows").take(row, name=name)

    def _grid(self, centre: float) -> NDArray[np.float32]:
        """x, y of every cell in cells, row-major: n²×2."""
        y, x = np.divmod(np.arange(self.cells), self.side)
        return np.stack((x, y), axis=1).astype(np.float32) + np.float32(centre)


def neighbour_table(side: int) -> NDArray[np.int64]:
    """n²×9: the cell that each tap of a padded 3×3 convolution reads; n² where that is outside the map."""
    rows, columns = np.divmod(np.arange(side * side), side)
    dy, dx = np.divmod(np.arange(9), 3)
    y, x = rows[:, None] + dy - 1, columns[:, None] + dx - 1
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    return np.where(inside, y * side + x, side * side)
