"""A long run: does memory stay flat, does the latency drift?

    python -m jntrt.bench.soak [BUNDLE] [--updates 100000] [--backend onnxruntime]

Without a bundle it makes a tiny untrained one, so that the tracker's own work is most of what is repeated.
"""

import gc
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle, open_bundle
from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.errors import UserError

app = new_app("soak", "A long run: does memory stay flat, does the latency drift?")

PARTS = 10
WIDTH, HEIGHT = 320, 240
BOX = (140.0, 100.0, 40.0, 30.0)


@dataclass(frozen=True)
class Soak:
    """A long run in `PARTS` equal parts: resident memory after each in MB, its p10 and p50 in milliseconds.

    p10 is what the machine does undisturbed; p50 carries what else ran on it.
    """

    updates: int
    memory_mb: tuple[float, ...]
    p10_ms: tuple[float, ...]
    p50_ms: tuple[float, ...]

    @property
    def growth_mb(self) -> float:
        """Memory at the end less that after the first part, in which everything is allocated."""
        return self.memory_mb[-1] - self.memory_mb[0]

    @property
    def drift(self) -> float:
        """p10 of the last part over the first part's."""
        return self.p10_ms[-1] / self.p10_ms[0]


def resident_mb() -> float:
    """Resident memory of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(tracker: Tracker, updates: int) -> Soak:
    """Update `updates` times over 16 frames of drifting noise, the target put back at every round's start."""
    frames = _frames()
    tracker.init(frames[0], BOX)
    memory = []
    times = np.full((PARTS, updates // PARTS), np.nan)  # written once now: its pages are no growth later
    for part in times:
        for index in range(len(part)):
            if index % len(frames) == 0:
                tracker.state = np.array(BOX)
            begin = perf_counter()
            tracker.update(frames[index % len(frames)])
            part[index] = perf_counter() - begin
        gc.collect()
        memory.append(resident_mb())
    p10, p50 = np.percentile(times * 1e3, [10, 50], axis=1)
    return Soak(updates, tuple(memory), tuple(p10.tolist()), tuple(p50.tolist()))


def tiny_bundle(folder: Path) -> Bundle:
    """An untrained bundle of the first family's tiny network."""
    from jntrt.bench.untrained import untrained_bundle
    from jntrt.export.families import FAMILIES, family

    name = next(iter(FAMILIES))
    return untrained_bundle(folder, name, family(name).NETWORKS["tiny"])


def _frames() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (HEIGHT + 16, WIDTH + 16, 3), dtype=np.uint8)
    return [np.ascontiguousarray(wide[shift:, shift:][:HEIGHT, :WIDTH]) for shift in range(16)]


@app.default
def main(bundle: str | None = None, /, *, updates: int = 100_000, backend: str = "onnxruntime") -> None:
    """Run, and print one line of JSON."""
    if updates < PARTS:
        raise UserError(f"--updates {updates}: give {PARTS} or more")
    with tempfile.TemporaryDirectory() as folder:
        opened = open_bundle(bundle) if bundle else tiny_bundle(Path(folder) / "tiny")
        with Tracker.from_bundle(opened, backend=backend, threads=1) as tracker:
            result = soak(tracker, updates)
    print(json.dumps({**asdict(result), "growth_mb": result.growth_mb, "drift": result.drift}))


if __name__ == "__main__":
    sys.exit(run(app))
