"""The gate: is a graph of another precision still the same tracker as the fp32 one?

Judged on crops and sequences that calibration did not see. On crops: overlap of the two boxes, difference of
the scores, and how many of the tokens kept by each eliminating block are the same. On sequences: the average
overlap (AO) with the annotation, difference with a bootstrap interval over the sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.evaluate import Contestant, compare, evaluate
from jntrt.bench.sequences.metrics import overlap
from jntrt.bench.sequences.workers.options import Team
from jntrt.calib.crops import CropSet
from jntrt.calib.graph.engine import Graphs
from jntrt.calib.graph.view import Array
from jntrt.calib.observe import feeds_of
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker


@dataclass(frozen=True)
class Thresholds:
    """What passes. ao: how far AO may move, up or down, on the held-back sequences."""

    median_iou: float
    ao: float

    def __post_init__(self) -> None:
        if not 0 <= self.median_iou <= 1:
            raise UserError(f"--min-iou {self.median_iou:g}: an overlap is 0 … 1")
        if not 0 <= self.ao <= 1:
            raise UserError(f"--max-ao {self.ao:g}: a difference of overlap is 0 … 1")


MAX_CLIPPED = 0.01  # of a tensor's values beyond its int8 range, on crops that calibration did not see

DEFAULTS = {
    "fp16": Thresholds(0.995, 0.002),
    "bf16-gpu": Thresholds(0.97, 0.01),
    "int8": Thresholds(0.97, 0.01),
}


@dataclass(frozen=True)
class CropFigures:
    """Agreement of two graphs on crops.

    median_iou, p5_iou: median and 5th percentile of the boxes' overlap; score_mean, score_max: absolute
    difference of the presence; kept: share of the same tokens, by the name of the kept set.
    """

    crops: int
    median_iou: float
    p5_iou: float
    score_mean: float
    score_max: float
    kept: dict[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """One number to rank by: mean loss of overlap, of score and of kept tokens, equally weighted."""
        lost = 1 - sum(self.kept.values()) / len(self.kept) if self.kept else 0.0
        return (1 - self.median_iou) + (1 - self.p5_iou) + self.score_mean + lost


@dataclass(frozen=True)
class SequenceFigures:
    """AO of both on held-back sequences; low, high: 95 % interval of the difference, None for one only."""

    sequences: int
    frames: int
    ao_fp32: float
    ao: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Verdict:
    """The gate's figures and what it says. clipped: share beyond its range, of tensors that fail by it."""

    engine: str
    thresholds: Thresholds
    crops: CropFigures
    sequences: SequenceFigures | None
    failures: tuple[str, ...]
    clipped: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every figure is within its threshold."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """For bundle.json: everything, with `passed`."""
        return {**asdict(self), "failures": list(self.failures), "passed": self.passed}


def reference_outputs(graphs: Graphs, crops: CropSet) -> list[dict[str, Array]]:
    """Outputs of the track graph for every crop."""
    return list(_outputs(graphs, crops))


def compare_crops(
    reference: Sequence[Mapping[str, Array]],
    graphs: Graphs,
    crops: CropSet,
    on_crop: Callable[[], None] | None = None,
) -> CropFigures:
    """Agreement of `graphs` with the reference's outputs for the same crops."""
    overlaps, scores = [], []
    kept: dict[str, list[float]] = {name: [] for name in graphs.kept}
    for expected, outputs in zip(reference, _outputs(graphs, crops), strict=True):
        overlaps.append(centred_overlap(expected["box"], outputs["box"]))
        scores.append(float(np.abs(expected["score"] - outputs["score"]).max()))
        for name, shares in kept.items():
            same = len(np.intersect1d(expected[name], outputs[name]))
            shares.append(same / expected[name].size)
        if on_crop is not None:
            on_crop()
    return CropFigures(
        crops=len(overlaps),
        median_iou=float(np.median(overlaps)),
        p5_iou=float(np.quantile(overlaps, 0.05)),
        score_mean=float(np.mean(scores)),
        score_max=float(np.max(scores)),
        kept={name: float(np.mean(shares)) for name, shares in kept.items()},
    )


def compare_sequences(
    reference: Callable[[], AbstractContextManager[Tracker]],
    other: Callable[[], AbstractContextManager[Tracker]],
    sequences: Sequence[Clip],
    on_frame: Callable[[int], None] | None = None,
    team: Team | None = None,
) -> SequenceFigures:
    """AO of two trackers, mean over the sequences; `team` follows them, None for this process."""
    base = evaluate(Contestant("fp32", {}, reference), sequences, on_frame=on_frame, team=team)
    changed = evaluate(Contestant("other", {}, other), sequences, on_frame=on_frame, team=team)
    interval = compare(base, changed)
    ao_base, ao = (float(np.nanmean(e.ao_by_clip)) for e in (base, changed))
    return SequenceFigures(
        sequences=len(sequences),
        frames=sum(len(sequence) for sequence in sequences),
        ao_fp32=ao_base,
        ao=ao,
        difference=ao - ao_base,
        low=interval[1] if interval else None,
        high=interval[2] if interval else None,
    )


def judge(
    engine: str,
    thresholds: Thresholds,
    crops: CropFigures,
    sequences: SequenceFigures | None,
    clipped: Mapping[str, float] | None = None,
) -> Verdict:
    """Compares the figures with the thresholds. clipped: share of values beyond its range, by tensor.

    A rise of AO fails like a fall: it was luck on these sequences, and the tracker is another one.
    """
    failures = []
    beyond = {name: share for name, share in (clipped or {}).items() if share > MAX_CLIPPED}
    beyond = dict(sorted(beyond.items(), key=lambda item: -item[1]))
    if beyond:
        name, share = next(iter(beyond.items()))
        failures.append(
            f"{share:.1%} of {name} lies beyond its range: the ranges come from other data than these"
        )
    if not crops.median_iou >= thresholds.median_iou:
        failures.append(f"median IoU {crops.median_iou:.4f} is below {thresholds.median_iou:g}")
    if sequences is not None and not abs(sequences.difference) <= thresholds.ao:
        failures.append(_moved(sequences, thresholds.ao))
    return Verdict(engine, thresholds, crops, sequences, tuple(failures), beyond)


def _moved(sequences: SequenceFigures, limit: float) -> str:
    """AO's failure in words; one that chance explains says what would tell."""
    text = f"AO moves by {sequences.difference:+.4f}, more than {limit:g}"
    if sequences.low is not None and sequences.high is not None and sequences.low <= 0 <= sequences.high:
        text += (
            f" (chance, perhaps, on {sequences.frames} frames: more --gate-data and --gate-frames would tell)"
        )
    return text


def hold_back(sequences: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """(to calibrate on, to judge by): every fifth sequence, at least one, is held back.

    Raises UserError when there is only one sequence.
    """
    if len(sequences) < 2:
        raise UserError("one sequence cannot serve to calibrate and to judge: add more, or give --gate-data")
    back = set(range(len(sequences) - 1, -1, -5))
    return (
        [s for i, s in enumerate(sequences) if i not in back],
        [s for i, s in enumerate(sequences) if i in back],
    )


def centred_overlap(a: Array, b: Array) -> float:
    """Mean intersection over union of B×4 boxes cx, cy, w, h; 0 where one is not finite."""
    values = overlap(*(np.hstack([x[:, :2] - x[:, 2:] / 2, x[:, 2:]]) for x in (a, b)))
    return float(np.where(np.isfinite(values), values, 0.0).mean())


def _outputs(graphs: Graphs, crops: CropSet) -> Any:
    def template(feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {name: value for name, value in graphs.template(feeds).items() if name in graphs.memory}

    for feeds in feeds_of(crops, template):
        yield graphs.track(feeds)
