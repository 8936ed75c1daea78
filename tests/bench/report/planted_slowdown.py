"""Does `bench-jn compare` find a planted slowdown, and is it silent on equal runs? Counts of both.

    python tests/bench/report/planted_slowdown.py [--repetitions 20] [--slowdown 0.05] [--starts 8]

The slowdown is a busy wait inside the timed update, as long as that share of the very frame. Runs are taken
in turn: as it is, slowed, as it is, slowed …; each is compared with the one as it is that came before it.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

from jntrt.bench.latency import worker
from jntrt.bench.latency.timed_engines import timed_clip
from jntrt.bench.report.compare import compare, regressions
from jntrt.bench.report.measured.collect import Plan, collect
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.tracker import Tracker

TOLERANCE = 0.025  # compare's default
ROUNDS = 3  # of each start
_SERVE = worker._serve


class Slowed:
    """What a worker's process runs in place of `worker._serve`; it travels there with its `share`."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, *arguments: Any) -> None:
        update = Tracker.update

        def slowed(tracker: Tracker, frame: Any) -> Any:
            begin = time.perf_counter()
            result = update(tracker, frame)
            now = time.perf_counter()
            end = now + self.share * (now - begin)
            while time.perf_counter() < end:
                pass
            return result

        Tracker.update = slowed  # type: ignore[method-assign]
        _SERVE(*arguments)


def taken(plan: Plan, slowdown: float) -> dict[str, Any]:
    """A report of the latency section, slowed by that share."""
    worker._serve = Slowed(slowdown) if slowdown else _SERVE
    try:
        return collect(plan, "", lambda words: None)
    finally:
        worker._serve = _SERVE


def pairs(plan: Plan, repetitions: int, slowdown: float) -> Iterator[tuple[bool, dict[str, Any], list[Any]]]:
    """For every repetition two comparisons: planted or not, the new report, the changes."""
    before = taken(plan, 0.0)
    for _ in range(repetitions):
        for share in (slowdown, 0.0):
            after = taken(plan, share)
            yield share > 0, after, compare(before, after, TOLERANCE)
        before = after


def count(bundle: str, repetitions: int, slowdown: float, starts: int, say: bool = True) -> tuple[int, int]:
    """How often the slowdown was found, and how often equal runs were called slower."""
    found = alarms = 0
    with timed_clip() as (source, box):
        plan = Plan(
            *((open_bundle(bundle),), source, box, True),
            rounds=ROUNDS * starts,
            starts=starts,
            sections=("latency",),
            precisions=("fp32",),
        )
        for planted, after, changes in pairs(plan, repetitions, slowdown):
            called = bool(regressions(changes))
            found, alarms = found + (planted and called), alarms + (not planted and called)
            frame = next(change for change in changes if change.stage == "frame")
            if say:
                print(
                    f"{'planted' if planted else 'equal  '} {after['engines'][0]['verdict']['word']:9}"
                    f" frame {frame.ratio:.3f} ({frame.low:.3f} … {frame.high:.3f}), limit {frame.limit:.1%},"
                    f" p {frame.p:.4f}: {', '.join(c.stage for c in regressions(changes)) or 'silent'}",
                    flush=True,
                )
    return found, alarms


def main() -> None:
    """The counts, after a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", default="nanotrack-v3")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--slowdown", type=float, default=0.05)
    parser.add_argument("--starts", type=int, default=8)
    options = parser.parse_args()
    begin = time.perf_counter()
    found, alarms = count(options.bundle, options.repetitions, options.slowdown, options.starts)
    print(
        f"a slowdown of {options.slowdown:.0%}: found in {found} of {options.repetitions};"
        f" equal runs called slower: {alarms} of {options.repetitions}"
        f" ({time.perf_counter() - begin:.0f} s)"
    )


if __name__ == "__main__":
    main()
