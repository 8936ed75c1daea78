"""What is checked of graphs before they are shipped: parity with the plain form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from jntrt.export.families.plain import PlainForm
from jntrt.export.onnx.promote import promote
from jntrt.export.onnx.roles import read_roles
from jntrt.runtime.engines.onnxruntime_session import open_session

TOLERANCE = 1e-4  # of box and score between the plain form and a graph, absolute
TIE = 1e-5  # of the similarities' range: two tokens closer than this may change places


@dataclass(frozen=True)
class Parity:
    """The graphs in ONNX Runtime against the plain form in PyTorch, on the same crops.

    `box_difference` and `score_difference`: the largest absolute differences. `ties`: samples in which a tie
    in the ranking was decided differently, so that the plain form had to keep the graph's tokens.
    `unexcused`: samples whose kept tokens differ by more than a tie. `box` S×4 and `score` S: the graphs', as
    `kept`: S×tokens of every kept set, by its name.
    """

    box_difference: float
    score_difference: float
    ties: int
    unexcused: int
    box: NDArray[np.float32] = field(repr=False)
    score: NDArray[np.float32] = field(repr=False)
    kept: Mapping[str, NDArray[np.int64]] = field(repr=False, default_factory=dict)

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
    model: PlainForm, template: onnx.ModelProto, track: onnx.ModelProto, samples: Mapping[str, NDArray[Any]]
) -> Parity:
    """Runs both graphs in ONNX Runtime and the plain form (`model`, in eval mode) on the same crops.

    samples: `template`, `search` uint8 and the graphs' other inputs, first axis: sample, a multiple of the
    graphs' batch (`samples.draw_samples`).
    Where the results differ by more than the tolerance because other candidates were kept, the plain form is
    run once more with the graph's; a kept set is excused only where it swaps tokens closer than `TIE`.
    """
    batch = track.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    count = len(samples["search"])
    if count % batch:
        raise ValueError(f"{count} samples are no multiple of the batch {batch}")
    names = _kept_sets(model, track)
    run_template, run_track, run_promoted = _runner(template), _runner(track), _runner(track, names)
    boxes, scores, sets, differences, ties, unexcused = [], [], [], [], 0, 0
    for start in range(0, count, batch):
        crops = {name: array[start : start + batch] for name, array in samples.items()}
        memory = run_template(_taken(template, crops))
        inputs = {**_taken(track, crops), **memory}
        got = run_track(inputs)
        promoted = run_promoted(inputs) if names else {}
        kept = {name: promoted[name] for name in names}
        difference = _difference(got, plain := _plain(model, crops))
        if not (difference <= TOLERANCE).all() and names:
            differ = [not _same_sets(plain, kept, row) for row in range(batch)]
            if any(differ):
                forced = _plain(model, crops, kept)
                difference = _difference(got, forced)
                gaps = model.ranking_gaps(forced, kept)
                unexcused += sum(d and not gap <= TIE for d, gap in zip(differ, gaps, strict=True))
                ties += sum(d and gap <= TIE for d, gap in zip(differ, gaps, strict=True))
        differences.append(difference)
        boxes.append(got["box"])
        scores.append(got["score"])
        sets.append(kept)
    box_difference, score_difference = np.max(differences, axis=0)
    return Parity(
        float(box_difference),
        float(score_difference),
        ties,
        unexcused,
        np.concatenate(boxes),
        np.concatenate(scores),
        {name: np.concatenate([kept[name] for kept in sets]) for name in names},
    )


def _kept_sets(model: PlainForm, track: onnx.ModelProto) -> list[str]:
    """The kept sets that the graph's metadata names, else those of the plain form."""
    roles = read_roles(track)
    return list(model.kept_sets if roles is None else roles.kept)


def _plain(
    model: PlainForm, crops: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[Any]] | None = None
) -> dict[str, NDArray[Any]]:
    forced = {name: torch.from_numpy(cells) for name, cells in kept.items()} if kept else None
    with torch.inference_mode():
        inputs = {name: torch.from_numpy(array) for name, array in crops.items()}
        inputs |= {name: model.normalise(inputs[name]) for name in ("template", "search")}
        return {name: value.numpy() for name, value in model.predict(inputs, forced).items()}


def _difference(got: Mapping[str, NDArray[Any]], plain: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Largest absolute differences of box and score; NaN where either is not finite."""
    return np.array([np.abs(got[name].astype(np.float64) - plain[name]).max() for name in ("box", "score")])


def _same_sets(plain: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[Any]], row: int) -> bool:
    return all(set(plain[name][row].tolist()) == set(cells[row].tolist()) for name, cells in kept.items())


def _taken(model: onnx.ModelProto, crops: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {i.name: crops[i.name] for i in model.graph.input if i.name in crops}


def _runner(model: onnx.ModelProto, promoted: Sequence[str] = ()) -> Any:
    """inputs → outputs and `promoted` interior tensors, all by name, in ONNX Runtime on the CPU."""
    content = promote(model, promoted).SerializeToString()
    session = open_session(content)
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))
