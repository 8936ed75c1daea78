"""What is checked of graphs before they are shipped: parity with the plain form, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from jntrt.export.families.ostrack.graphs import uses_template_weights
from jntrt.export.families.ostrack.network import OSTrack, normalise
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.promote import promote
from numpy.typing import NDArray

TOLERANCE = 1e-4  # of box and score between the plain form and a graph, absolute
TIE = 1e-5  # of the similarities' range: two tokens closer than this may change places


def plain_macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the plain form's linear and convolution layers, per frame and template."""
    dim, arriving = recipe.dim, recipe.search_count
    context = recipe.template_count + (recipe.target_hidden > 0)
    total = (recipe.template_count + arriving) * 3 * recipe.patch**2 * dim
    total += recipe.target_hidden * (4 + dim)
    for block in range(recipe.depth):
        total += (context + arriving) * 4 * dim**2
        arriving = recipe.keep_counts.get(block, arriving)
        total += (context + arriving) * 2 * dim * recipe.mlp_dim
    outputs = {
        "center": (1, 2, 2),
        "corner": (1, 1),
        "distribution": (1, 4 * recipe.bins),
    }[recipe.head]
    c = recipe.head_channels
    tower = 9 * (dim * c + c * (c // 2) + (c // 2) * (c // 4) + (c // 4) * (c // 8))
    per_cell = sum(tower + c // 8 * n for n in outputs)
    if recipe.head == "distribution":
        per_cell += 20 * recipe.quality_dim + recipe.quality_dim
    return total + recipe.search_count * per_cell


@dataclass(frozen=True)
class Parity:
    """The graphs in ONNX Runtime against the plain form in PyTorch, on the same crops.

    `box_difference` and `score_difference`: the largest absolute differences. `ties`: samples in which a tie
    in the ranking was decided differently, so that the plain form had to keep the graph's tokens.
    `unexcused`: samples whose kept tokens differ by more than a tie. `box` S×4 and `score` S: the graphs'.
    """

    box_difference: float
    score_difference: float
    ties: int
    unexcused: int
    box: NDArray[np.float32] = field(repr=False)
    score: NDArray[np.float32] = field(repr=False)

    @property
    def passed(self) -> bool:
        # Written so that a NaN fails.
        close = self.box_difference <= TOLERANCE and self.score_difference <= TOLERANCE
        return close and not self.unexcused

    def to_dict(self) -> dict[str, Any]:
        """The manifest's `check`."""
        return {
            "box": self.box_difference,
            "score": self.score_difference,
            "ties": self.ties,
            "passed": self.passed,
        }

    def __str__(self) -> str:
        text = f"box {self.box_difference:.1e}, score {self.score_difference:.1e}, allowed {TOLERANCE:.0e}"
        return text + (f", {self.unexcused} samples keep other tokens" if self.unexcused else "")


def parity(
    model: OSTrack, template: onnx.ModelProto, track: onnx.ModelProto, samples: Mapping[str, NDArray[Any]]
) -> Parity:
    """Runs both graphs in ONNX Runtime and the plain form (`model`, in eval mode) on the same crops.

    samples: `template`, `search` uint8, `target_box`, `template_weights` (the last two read where the recipe
    has a use for them), first axis: sample, a multiple of the graphs' batch.
    Where the results differ by more than the tolerance because other candidates were kept, the plain form is
    run once more with the graph's; a kept set is excused only where it swaps tokens closer than `TIE`.
    """
    batch = track.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    count = len(samples["search"])
    if count % batch:
        raise ValueError(f"{count} samples are no multiple of the batch {batch}")
    run_template, run_track = _runner(template), _runner(track)
    run_forced = None
    layers = list(model.recipe.keep_counts)
    boxes, scores, differences, ties, unexcused = [], [], [], 0, 0
    for start in range(0, count, batch):
        crops = {name: array[start : start + batch] for name, array in samples.items()}
        memory = run_template(_taken(template, crops))
        inputs = {**_taken(track, crops), **memory}
        got = run_track(inputs)
        difference = _difference(got, plain := _plain(model, crops))
        if not (difference <= TOLERANCE).all() and layers:
            if run_forced is None:
                run_forced = _runner(promote(track, [f"blocks.{i}/ce/kept" for i in layers]))
            promoted = run_forced(inputs)
            kept = {i: promoted[f"blocks.{i}/ce/kept"] for i in layers}
            differ = [not _same_sets(plain, kept, row) for row in range(batch)]
            if any(differ):
                forced = _plain(model, crops, kept)
                difference = _difference(got, forced)
                gaps = [
                    max(ranking_gap(forced[f"similarity.{i}"][row], kept[i][row]) for i in layers)
                    for row in range(batch)
                ]
                unexcused += sum(d and not gap <= TIE for d, gap in zip(differ, gaps, strict=True))
                ties += sum(d and gap <= TIE for d, gap in zip(differ, gaps, strict=True))
        differences.append(difference)
        boxes.append(got["box"])
        scores.append(got["score"])
    box_difference, score_difference = np.max(differences, axis=0)
    return Parity(
        float(box_difference),
        float(score_difference),
        ties,
        unexcused,
        np.concatenate(boxes),
        np.concatenate(scores),
    )


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


def _plain(
    model: OSTrack, crops: Mapping[str, NDArray[Any]], kept: Mapping[int, NDArray[Any]] | None = None
) -> dict[str, NDArray[Any]]:
    recipe = model.recipe
    optional = {}
    if recipe.target_hidden:
        optional["target_box"] = torch.from_numpy(crops["target_box"])
    if uses_template_weights(recipe):
        optional["template_mask"] = torch.from_numpy(crops["template_weights"])
    forced = {layer: torch.from_numpy(cells) for layer, cells in kept.items()} if kept else None
    with torch.inference_mode():
        template, search = (normalise(torch.from_numpy(crops[name])) for name in ("template", "search"))
        out = model(template, search, **optional, forced=forced)
        box, score = model.decode(out)
    notes = {name: t.numpy() for name, t in out.items() if name.startswith(("kept.", "similarity."))}
    return {**notes, "box": box.numpy(), "score": score.numpy()}


def _difference(got: Mapping[str, NDArray[Any]], plain: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Largest absolute differences of box and score; NaN where either is not finite."""
    return np.array([np.abs(got[name].astype(np.float64) - plain[name]).max() for name in ("box", "score")])


def _same_sets(plain: Mapping[str, NDArray[Any]], kept: Mapping[int, NDArray[Any]], row: int) -> bool:
    return all(set(plain[f"kept.{i}"][row].tolist()) == set(cells[row].tolist()) for i, cells in kept.items())


def _taken(model: onnx.ModelProto, crops: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {i.name: crops[i.name] for i in model.graph.input if i.name in crops}


def _runner(model: onnx.ModelProto) -> Any:
    """inputs → outputs, both by name, in ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))
