"""Trackers over annotated sequences: run, resume, measure, compare."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.metrics import ClipMeasures, Measures, measure_clip, paired_difference, summarize
from jntrt.bench.sequences.results import Run, load_run, save_run
from jntrt.bench.sequences.workers.jobs import Job, Work, run_jobs
from jntrt.bench.sequences.workers.options import Team
from jntrt.runtime.errors import UserError

MIN_CLIPS = 2  # one clip has no spread: no interval


class Prediction(Protocol):
    """What `update` gives: the box (4 values, x, y, w, h in pixels) and the presence score (NaN: none)."""

    @property
    def box(self) -> Any: ...
    @property
    def score(self) -> Any: ...


class Tracks(Protocol):
    """Anything that follows one target: `jntrt.runtime.Tracker`, a baseline, a fake in a test."""

    def init(self, frame: NDArray[np.uint8], box: Any, /) -> Any: ...
    def update(self, frame: NDArray[np.uint8], /) -> Prediction: ...


@dataclass(frozen=True)
class Contestant:
    """A tracker by name, how to open it, and what its results depend on (stored with them, for resuming).

    `open` gives a context manager: the tracker stays open for all sequences. For a team's workers it is a
    module's function or a partial of one.
    """

    name: str
    identity: Mapping[str, Any]
    open: Callable[[], AbstractContextManager[Tracks]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One contestant's figures. milliseconds: median over all frames but the first of a clip, tracker alone.

    fps: mean of 1/seconds over the same frames, as the GOT-10k toolkit has it. Both are NaN where a clip was
    followed beside others: such times say nothing of the tracker.
    """

    name: str
    identity: Mapping[str, Any]
    measures: Measures
    clips: tuple[ClipMeasures, ...]
    milliseconds: float
    fps: float

    @property
    def ao_by_clip(self) -> NDArray[np.float64]:
        """Mean overlap of each clip, NaN where no frame counts."""
        return np.array([clip.overlaps.mean() if len(clip.overlaps) else np.nan for clip in self.clips])


def run_tracker(sequence: Clip, tracker: Tracks, on_frame: Callable[[], None] | None = None) -> Run:
    """Follow the target of `sequence` from its first box to its end; decoding is outside the times.

    UserError where the target is absent in the first frame: there is nothing to start from.
    """
    if not np.isfinite(sequence.boxes[0]).all() or not sequence.visible[0]:
        raise UserError(f"{sequence.name}: no visible target in its first frame to start from")
    count = len(sequence)
    boxes = np.empty((count, 4))
    scores = np.full(count, np.nan)
    seconds = np.empty(count)
    size = (0, 0)
    for number, frame in enumerate(sequence.frames()):
        begin = time.perf_counter()
        if number == 0:
            tracker.init(frame, tuple(float(value) for value in sequence.boxes[0]))
            seconds[0] = time.perf_counter() - begin
            boxes[0] = sequence.boxes[0]
            size = (frame.shape[1], frame.shape[0])
        else:
            result = tracker.update(frame)
            seconds[number] = time.perf_counter() - begin
            boxes[number] = np.asarray(result.box, dtype=np.float64).reshape(4)
            scores[number] = float(np.asarray(result.score).reshape(()))
        if on_frame is not None:
            on_frame()
    return Run(boxes, scores, seconds, size)


def evaluate(
    contestant: Contestant,
    sequences: Sequence[Clip],
    out: Path | None = None,
    on_frame: Callable[[int], None] | None = None,
    team: Team | None = None,
) -> Evaluation:
    """Run a contestant over all sequences and measure it.

    out: result files go here, sequence by sequence, and those that are there already are taken (see
    `jntrt.bench.sequences.results`). on_frame is called with the number of frames done since the last call.
    team: who follows the clips, None for this process; only this process writes.

    Raises UserError where a sequence has no result: figures are never of fewer.
    """
    for sequence in sequences:
        if sequence.first_only:
            raise UserError(
                f"{sequence.name}: only its first box is annotated, which gives no figures; "
                "bench-jn submit writes results for the benchmark's server"
            )
    return measure(contestant, sequences, all_runs(contestant, sequences, out, on_frame, team))


def all_runs(
    contestant: Contestant,
    sequences: Sequence[Clip],
    out: Path | None = None,
    on_frame: Callable[[int], None] | None = None,
    team: Team | None = None,
) -> dict[str, Run]:
    """The runs of a contestant over all sequences, by name; as `evaluate`, without the figures."""
    runs: dict[str, Run] = {}
    if out is not None:
        stored = {seq.name: load_run(out, contestant.name, contestant.identity, seq) for seq in sequences}
        runs = {name: run for name, run in stored.items() if run is not None}
    if on_frame is not None and runs:
        on_frame(sum(len(run.boxes) for run in runs.values()))
    missing = [sequence for sequence in sequences if sequence.name not in runs]
    if missing:
        for sequence, run in _runs(contestant, missing, on_frame, team):
            if out is not None:
                save_run(out, contestant.name, contestant.identity, sequence, run)
                # What is measured is what is stored, so that a resumed run gives the same figures.
                run = load_run(out, contestant.name, contestant.identity, sequence) or run
            runs[sequence.name] = run
    return runs


def _runs(
    contestant: Contestant,
    sequences: Sequence[Clip],
    on_frame: Callable[[int], None] | None,
    team: Team | None,
) -> Iterator[tuple[Clip, Run]]:
    """Every sequence with its run, in the order in which they end."""
    if team is None:
        step = (lambda: on_frame(1)) if on_frame is not None else None
        with contestant.open() as tracker:
            for sequence in sequences:
                yield sequence, run_tracker(sequence, tracker, step)
        return
    by_name = {sequence.name: sequence for sequence in sequences}
    jobs = [Job(sequence.name, len(sequence), sequence.absolute()) for sequence in sequences]
    with team.crew(Work(contestant.open, follow_clip)) as crew:
        for name, run in run_jobs(crew, jobs):
            if on_frame is not None:
                on_frame(len(run.boxes))
            yield by_name[name], replace(run, shared=True)


def follow_clip(tracker: Tracks, sequence: Clip) -> Run:
    """`run_tracker` as a worker calls it."""
    return run_tracker(sequence, tracker)


def measure(contestant: Contestant, sequences: Sequence[Clip], runs: Mapping[str, Run]) -> Evaluation:
    """The figures of one contestant from its runs, by sequence name."""
    clips = []
    for sequence in sequences:
        run = runs[sequence.name]
        scored = bool(np.isfinite(run.scores[1:]).all())
        clips.append(
            measure_clip(
                sequence.name,
                run.boxes,
                sequence.boxes,
                sequence.visible,
                run.size,
                run.scores if scored else None,
                sequence.absent if sequence.absence_annotated else None,
            )
        )
    seconds = np.concatenate([runs[sequence.name].seconds[1:] for sequence in sequences])
    # A clock tick can be longer than a static box takes; the toolkit drops such frames as well.
    seconds = seconds[seconds > 0]
    if any(runs[sequence.name].shared for sequence in sequences):
        seconds = seconds[:0]
    return Evaluation(
        contestant.name,
        contestant.identity,
        summarize(clips),
        tuple(clips),
        float(np.median(seconds) * 1e3) if len(seconds) else float("nan"),
        float(np.mean(1 / seconds)) if len(seconds) else float("nan"),
    )


def compare(reference: Evaluation, other: Evaluation) -> tuple[float, float, float] | None:
    """AO of `other` minus that of `reference`, mean over clips, with its 95 % bootstrap interval.

    Clips, not frames, are drawn: frames of one clip are not independent. None with fewer than two clips.
    """
    ours, theirs = other.ao_by_clip, reference.ao_by_clip
    both = np.isfinite(ours) & np.isfinite(theirs)
    if both.sum() < MIN_CLIPS:
        return None
    return paired_difference(ours[both], theirs[both])
