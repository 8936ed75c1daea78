"""How long a frame takes: engines in processes of their own, called in turn, stage by stage."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.latency.worker import STAGES, TimedEngine, Worker
from jntrt.bench.machine import moment, quiet_check, spin

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, eq=False)
class Timing:
    """One engine's times. milliseconds: rounds×frames×6, the last axis is `STAGES`."""

    engine: TimedEngine
    description: dict[str, Any]
    milliseconds: NDArray[np.float64]

    def stage(self, name: str) -> NDArray[np.float64]:
        """Milliseconds of one stage, rounds×frames."""
        times: NDArray[np.float64] = self.milliseconds[:, :, STAGES.index(name)]
        return times

    def summary(self) -> dict[str, dict[str, float]]:
        """mean, p50, p90, p95, p99 in milliseconds and FPS (1000 / mean) of each stage."""
        result = {}
        for name in STAGES:
            times = self.stage(name).ravel()
            figures = {"mean": float(times.mean())}
            figures |= {f"p{p}": float(np.percentile(times, p)) for p in PERCENTILES}
            result[name] = {**figures, "fps": float(1e3 / times.mean())}
        return result


@dataclass(frozen=True, eq=False)
class Latency:
    """All engines' times, and whether the machine was quiet meanwhile (`machine.quiet_check`)."""

    timings: tuple[Timing, ...]
    quiet: dict[str, Any]


def measure_latency(
    engines: Sequence[TimedEngine],
    *,
    rounds: int = 10,
    frames: int = 20,
    warmup: int = 10,
    on_step: Callable[[str], None] | None = None,
) -> Latency:
    """Time all engines: each starts in its own process, then they are called in turn, `rounds` times.

    frames: timed frames of one call (one untimed goes before them). warmup: untimed frames of each engine
    before the first round. on_step is called with an engine's label after it started and after each call.
    UserError where an engine cannot run.
    """
    step = on_step or (lambda label: None)
    with ExitStack() as stack:
        workers = []
        for engine in engines:
            workers.append(stack.enter_context(Worker(engine)))
            step(engine.label)
        for worker in workers:
            worker.run(warmup)
        times: list[list[NDArray[np.float64]]] = [[] for _ in workers]
        slow_before, before = spin(), moment()
        for _ in range(rounds):
            for worker, collected in zip(workers, times, strict=True):
                collected.append(worker.run(frames))
                step(worker.engine.label)
        after, slow_after = moment(), spin()
        return Latency(
            tuple(
                Timing(worker.engine, worker.description, np.stack(collected))
                for worker, collected in zip(workers, times, strict=True)
            ),
            quiet_check(before, after, (slow_before, slow_after)),
        )


def speed_ratio(timing: Timing, reference: Timing, stage: str) -> float:
    """How many times as fast as `reference`: the median over rounds of the ratio of the rounds' medians.

    Per round, because both then ran within seconds of each other, on the same clock.
    """
    ours = np.median(timing.stage(stage), axis=1)
    theirs = np.median(reference.stage(stage), axis=1)
    return float(np.median(theirs / ours))
