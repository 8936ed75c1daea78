"""How well weights track clips: what length and share are chosen by, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.evaluate import Contestant, Evaluation, Tracks, evaluate
from jntrt.export.families import family
from jntrt.export.families.plain import PlainForm
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.tracker import Tracker
from jntrt.train.finetune.clips import shortened
from jntrt.train.run.measure import PlainTracker, measure

CHECKED = (8, 80)  # clips and frames of each that a check looks at
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the way from the weights before to the trained ones
ENOUGH = 0.8  # of the best share's gain: the rest is not worth what the farther weights forget


def check(model: PlainForm, kind: str, clips: Sequence[Clip]) -> float:
    """AO of `model` on the beginnings of a few of `clips`."""
    most, frames = CHECKED
    return measure(family(kind), model, [shortened(clip, frames) for clip in clips[:most]])["ao"]


def between(before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights `share` of the way from `before` to `after`; what is no floating-point number is that after."""
    return {
        name: before[name].lerp(value.to(before[name]), share) if value.is_floating_point() else value
        for name, value in after.items()
    }


def nearest_of_the_good(gains: Mapping[float, float]) -> float:
    """The smallest share whose gain is `ENOUGH` of the best; 0 where none gains."""
    best = max(gains.values())
    if best <= 0:
        return 0.0
    return min(share for share, gain in gains.items() if gain >= ENOUGH * best)


@dataclass(frozen=True)
class Found:
    """What a plain tracker gives, as `evaluate` wants it."""

    box: tuple[float, float, float, float]
    score: float


class Plainly:
    """A plain network as a contestant's tracker."""

    def __init__(self, kind: str, model: PlainForm) -> None:
        self._tracker = PlainTracker(family(kind), model)

    def init(self, frame: Any, box: Any) -> None:
        """Shows the target."""
        self._tracker.init(frame, box)

    def update(self, frame: Any) -> Found:
        """Box and score in the next frame."""
        return Found(*self._tracker.update(frame))


def judge_model(name: str, kind: str, model: PlainForm, clips: Sequence[Clip]) -> Evaluation:
    """The figures of a plain network on `clips`."""
    return evaluate(Contestant(name, {}, lambda: nullcontext(Plainly(kind, model))), clips)


def judge_bundle(name: str, bundle: Bundle, threads: int | None, clips: Sequence[Clip]) -> Evaluation:
    """The figures of a bundle in ONNX Runtime on `clips`."""

    @contextmanager
    def opened() -> Iterator[Tracks]:
        with Tracker.from_bundle(bundle, "onnxruntime", threads=threads) as tracker:
            yield tracker

    return evaluate(Contestant(name, {}, opened), clips)


def table(rows: Sequence[Evaluation], show: Callable[[float], str] = "{:.3f}".format) -> list[str]:
    """Lines of at most 80 columns: AO, success and centre precision of each, means over clips."""
    lines = [f"{'':28}{'AO':>8}{'SR.5':>8}{'SR.75':>8}{'Pn':>8}"]
    for row in rows:
        m = row.measures
        figures = (m.ao_clips, m.sr50_clips, m.sr75_clips, m.normalised_precision_clips)
        lines.append(f"{row.name[:27]:28}" + "".join(f"{show(value):>8}" for value in figures))
    return lines
