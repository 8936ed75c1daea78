"""How long a frame takes: engines in processes of their own, called in turn, stage by stage."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.conditions import Sample, Watch
from jntrt.bench.latency.worker import STAGES, TimedEngine, Worker
from jntrt.bench.machine import moment, quiet_check, spin
from jntrt.bench.statistics import percentiles

LEAST_FRAMES, MOST_FRAMES = 3, 200  # of one call whose frames are chosen by time


def _none() -> NDArray[np.float64]:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class Timing:
    """One engine's times. milliseconds: rounds×frames×6, the last axis is `STAGES`.

    reference: milliseconds of the fixed product after each frame, rounds×frames. seconds: when each round
    began, since the first one's start. start: what the first process's `Worker.start` says. starts: in which
    process each round ran, from 0.
    """

    engine: TimedEngine
    description: dict[str, Any]
    milliseconds: NDArray[np.float64]
    reference: NDArray[np.float64] = field(default_factory=_none)
    seconds: NDArray[np.float64] = field(default_factory=_none)
    start: dict[str, float] = field(default_factory=dict)
    starts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def stage(self, name: str) -> NDArray[np.float64]:
        """Milliseconds of one stage, rounds×frames."""
        times: NDArray[np.float64] = self.milliseconds[:, :, STAGES.index(name)]
        return times

    def summary(self) -> dict[str, dict[str, float | None]]:
        """mean, percentiles in milliseconds (None: too few frames) and FPS (1000 / mean) of each stage."""
        result = {}
        for name in STAGES:
            times = self.stage(name)
            mean = float(times.mean())
            result[name] = {"mean": mean, **percentiles(times), "fps": 1e3 / mean}
        return result

    def over_reference(self, name: str) -> NDArray[np.float64]:
        """A value a round: the median over its frames of the stage over the product right after it.

        Pairs, since what a host's other guests do changes within a round: rounds of one run differ by a third
        of what their medians differ by.
        """
        return np.median(self.stage(name) / self.reference, axis=1)

    def median(self, name: str) -> float:
        """The median over all frames of one stage, in milliseconds."""
        return float(np.median(self.stage(name)))


@dataclass(frozen=True, eq=False)
class Latency:
    """All engines' times, whether the machine was quiet (`machine.quiet_check`), and what it did then."""

    timings: tuple[Timing, ...]
    quiet: dict[str, Any]
    samples: tuple[Sample, ...] = ()


def measure_latency(
    engines: Sequence[TimedEngine],
    *,
    rounds: int = 10,
    frames: int = 20,
    warmup: int = 10,
    call_seconds: float | None = None,
    starts: int = 1,
    on_step: Callable[[str], None] | None = None,
) -> Latency:
    """Time all engines: each starts in its own process, then they are called in turn, `rounds` times.

    frames: timed frames of one call (one untimed goes before them). warmup: untimed frames of each engine
    before its first round. call_seconds: instead of `frames`, as many frames a call as fit into this time.
    starts: in how many processes one after the other each engine runs its rounds: where the system puts the
    memory of a process makes it some per cent faster or slower as long as it lives. on_step is called with an
    engine's label after it started and after each call. UserError where an engine cannot run.
    """
    step = on_step or (lambda label: None)
    counts: list[int] = []
    taken: list[list[NDArray[np.float64]]] = [[] for _ in engines]
    marks: list[list[float]] = [[] for _ in engines]
    opened: list[Worker] = []
    slow_before = spin()
    with ExitStack() as run:
        for start in range(starts):
            with ExitStack() as stack:
                workers = []
                for engine in engines:
                    workers.append(stack.enter_context(Worker(engine)))
                    step(engine.label)
                warm = [worker.run(warmup) for worker in workers]
                if start == 0:
                    counts = [frames if call_seconds is None else _fitting(call_seconds, own) for own in warm]
                    opened, begin, before = workers, perf_counter(), moment()
                    watch = run.enter_context(Watch())
                for _ in range(start, rounds, starts):
                    for worker, count, times, marked in zip(workers, counts, taken, marks, strict=True):
                        marked.append(perf_counter() - begin)
                        times.append(worker.run(count))
                        step(worker.engine.label)
    after, slow_after = moment(), spin()
    numbers = np.concatenate([np.full(len(range(k, rounds, starts)), k) for k in range(starts)])
    timings = []
    for worker, times, marked in zip(opened, taken, marks, strict=True):
        stages, reference = np.split(np.stack(times), [len(STAGES)], axis=2)
        about, seconds = (worker.engine, worker.description), np.array(marked)
        timings.append(Timing(*about, stages, reference[:, :, 0], seconds, worker.start, numbers))
    return Latency(
        tuple(timings), quiet_check(before, after, (slow_before, slow_after)), tuple(watch.samples)
    )


def _fitting(seconds: float, warm: NDArray[np.float64]) -> int:
    """How many frames like these of `Worker.run` fit, the product after each included."""
    whole = warm[:, STAGES.index("whole")] + warm[:, -1]
    return min(max(round(seconds * 1e3 / float(np.median(whole))), LEAST_FRAMES), MOST_FRAMES)


def speed_ratio(timing: Timing, reference: Timing, stage: str) -> float:
    """How many times as fast as `reference`: the median over rounds of the ratio of the rounds' medians.

    Per round, because both then ran within seconds of each other, on the same clock.
    """
    ours = np.median(timing.stage(stage), axis=1)
    theirs = np.median(reference.stage(stage), axis=1)
    return float(np.median(theirs / ours))
