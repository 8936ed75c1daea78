"""How long the whole command takes, from start to end: decoding, tracking, drawing and writing together."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from jntrt.bench.latency.reference import ReferenceProduct
from jntrt.bench.latency.worker import TimedEngine
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.errors import UserError

FRAMES = 300  # of a drawn clip, ten seconds of video: the start is a small share
PRODUCTS = 20  # before and after a run
LEGEND = """\
whole   trtrun from its start to its end, with --out and --save: decoding in a
        thread of its own, tracking, drawing, encoding; FPS = frames / whole
CPU     seconds of all its threads"""


@dataclass(frozen=True)
class Whole:
    """Runs of trtrun with one engine: seconds on the clock and on the CPU, a value a run.

    reference: milliseconds of the fixed product around each run.
    """

    engine: TimedEngine
    frames: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    reference: tuple[float, ...] = ()

    def summary(self) -> dict[str, float]:
        """Medians over the runs, and frames per second."""
        seconds = float(np.median(self.seconds))
        return {
            "seconds": seconds,
            "fps": self.frames / seconds,
            "cpu_seconds": float(np.median(self.cpu_seconds)),
        }


def time_whole(
    engines: Sequence[TimedEngine], *, rounds: int, on_step: Callable[[str], None] = lambda label: None
) -> list[Whole]:
    """Runs trtrun with every engine in turn, `rounds` times. UserError with its line where it fails."""
    product = ReferenceProduct()
    runs: list[list[tuple[int, float, float, float]]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, taken in zip(engines, runs, strict=True):
            products = [product.milliseconds() for _ in range(PRODUCTS)]
            timed = _run(engine)
            products += [product.milliseconds() for _ in range(PRODUCTS)]
            taken.append((*timed, float(np.median(products))))
            on_step(engine.label)
    found = []
    for engine, taken in zip(engines, runs, strict=True):
        frames, seconds, cpu_seconds, reference = zip(*taken, strict=True)
        found.append(Whole(engine, frames[0], seconds, cpu_seconds, reference))
    return found


def to_dict(timings: Sequence[Whole], bundles: Mapping[str, Bundle]) -> list[dict[str, Any]]:
    """For JSON, an entry an engine: medians, and what each run took. bundles: by path."""
    entries = []
    for timing in timings:
        engine, bundle = timing.engine, bundles[timing.engine.bundle]
        about: dict[str, Any] = {"label": engine.label, "bundle": bundle.name, "backend": engine.backend}
        about |= {"precision": engine.precision, "threads": engine.threads, "bundle_sha256": bundle.sha256}
        columns = (timing.seconds, timing.cpu_seconds, timing.reference)
        rounds = [
            {"seconds": seconds, "cpu_seconds": cpu_seconds, "reference_ms": reference}
            for seconds, cpu_seconds, reference in zip(*columns, strict=True)
        ]
        entries.append({**about, "frames": timing.frames, **timing.summary(), "rounds": rounds})
    return entries


def print_whole(timings: Sequence[Whole], console: Console) -> None:
    """One table of all engines, and its legend."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("engine", overflow="fold")
    for column in ("frames", "whole s", "FPS", "CPU s"):
        table.add_column(column, justify="right", no_wrap=True)
    for timing in timings:
        found = timing.summary()
        figures = (f"{found['seconds']:.2f}", f"{found['fps']:.1f}", f"{found['cpu_seconds']:.2f}")
        table.add_row(timing.engine.label, str(timing.frames), *figures)
    console.print(table)
    console.print(LEGEND, highlight=False)


def _run(engine: TimedEngine) -> tuple[int, float, float]:
    """Frames, seconds on the clock, seconds of CPU of one run."""
    with TemporaryDirectory(prefix="jntrt-bench-") as folder:
        boxes, video = Path(folder) / "boxes.txt", Path(folder) / "tracked.mp4"
        command = [sys.executable, "-m", "jntrt.runtime.trtrun", engine.source, "--bundle", engine.bundle]
        command += ["--init=" + ",".join(f"{value:g}" for value in engine.box)]
        command += ["--backend", engine.backend, "--precision", engine.precision]
        command += ["--threads", str(engine.threads)] if engine.threads else []
        command += ["--out", str(boxes), "--save", str(video)]
        used, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        seconds = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            line = (done.stderr.strip().splitlines() or ["trtrun failed"])[-1]
            raise UserError(f"{engine.label}: {line}")
        cpu = after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime
        return len(boxes.read_text().splitlines()), seconds, cpu
