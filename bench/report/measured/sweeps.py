"""Sweeps: threads, targets, search size, keep ratio. Where weights do not matter they are random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jntrt.bench.latency.measure import measure_latency
from jntrt.bench.latency.worker import TimedEngine
from jntrt.bench.report.measured.engines import stages
from jntrt.bench.untrained import untrained_bundle
from jntrt.export.families import FAMILIES, family
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.errors import UserError

TARGETS = (1, 2, 4, 8)
KEEP_RATIOS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
SIZES = (0.5, 0.75, 1.0, 1.25, 1.5)  # of the search crop's side
FEW_SIZES = (0.5, 1.0, 1.5)  # of a large network's, whose every export takes many seconds
MAX_SWEPT = 4e9  # multiply-accumulates of a network whose targets are swept, and that is no large one
ROUNDS = 5
Step = Callable[[str], None]


@dataclass(frozen=True)
class Sweep:
    """How points are timed: source, box and engine as in `TimedEngine`, seconds of a call."""

    source: str
    box: tuple[float, float, float, float]
    backend: str
    threads: int | None
    seconds: float

    def engine(self, label: str, bundle: Bundle, threads: int | None = None) -> TimedEngine:
        """An fp32 engine of `bundle`."""
        count = threads or self.threads
        return TimedEngine(
            label, str(bundle.path), self.source, self.box, backend=self.backend, threads=count
        )

    def time(self, engines: Sequence[TimedEngine], step: Step) -> list[dict[str, Any]]:
        """Network and frame stages of each, called in turn."""
        found = measure_latency(engines, rounds=ROUNDS, call_seconds=self.seconds, warmup=3, on_step=step)
        return [{name: stages(timing)[name] for name in ("network", "frame")} for timing in found.timings]


def sweep_threads(sweep: Sweep, bundles: Sequence[Bundle], cores: int, step: Step) -> list[dict[str, Any]]:
    """Every bundle in fp32 with 1, 2, 4 … threads up to the cores there are."""
    counts = sorted({cores, *(2**k for k in range(8) if 2**k <= cores)})
    points = [(bundle, count) for bundle in bundles for count in counts]
    timed = sweep.time([sweep.engine(f"{b.name}, {n} threads", b, n) for b, n in points], step)
    return [
        {"bundle": bundle.name, "threads": count, "stages_ms": times}
        for (bundle, count), times in zip(points, timed, strict=True)
    ]


def sweep_targets(sweep: Sweep, bundle: Bundle, step: Step) -> list[dict[str, Any]]:
    """The bundle's network with 1, 2, 4 and 8 targets at once, its recipe with random weights."""
    recipe = _recipe(bundle)
    with TemporaryDirectory(prefix="jntrt-bench-") as folder:
        made = [
            untrained_bundle(Path(folder) / f"{bundle.name}-{count}", bundle.family, recipe, batch=count)
            for count in TARGETS
        ]
        timed = sweep.time([sweep.engine(f"{bundle.name}, {b.batch} targets", b) for b in made], step)
        return [
            {"bundle": bundle.name, "targets": b.batch, "macs": b.manifest["macs"], "stages_ms": times}
            for b, times in zip(made, timed, strict=True)
        ]


def sweep_cost(sweep: Sweep, bundle: Bundle, step: Step) -> list[dict[str, Any]]:
    """Time and multiply-accumulates over keep ratio and search size; what the recipe lacks is left out."""
    recipe = _recipe(bundle)
    points = []
    with TemporaryDirectory(prefix="jntrt-bench-") as folder:
        for axis, value, changed in _variants(recipe, bundle):
            made = untrained_bundle(Path(folder) / f"{axis}-{value:g}", bundle.family, changed)
            label = f"{bundle.name}, {axis.replace('_', ' ')} {value:g}"
            timed = sweep.time([sweep.engine(label, made)], step)
            row = {"bundle": bundle.name, "axis": axis, "value": value, "macs": made.manifest["macs"]}
            points.append({**row, "stages_ms": timed[0]})
            for file in made.path.iterdir():  # a ViT-B's are 400 MB each
                file.unlink()
    return points


def _recipe(bundle: Bundle) -> Any:
    if bundle.family not in FAMILIES:
        raise UserError(f"{bundle.name}: its family {bundle.family} is unknown here; leave its sweeps out")
    return family(bundle.family).Recipe.from_dict(bundle.recipe)


def _variants(recipe: Any, bundle: Bundle) -> Iterator[tuple[str, float, Any]]:
    """Axis, value and recipe of each point."""
    layers = getattr(recipe, "ce_layers", ())
    for ratio in KEEP_RATIOS if layers else ():
        yield "keep_ratio", ratio, replace(recipe, keep_ratio=(ratio,) * len(layers))
    patch = getattr(recipe, "patch", None)
    small = bundle.manifest.get("macs", {}).get("plain", 0) <= MAX_SWEPT
    if patch and hasattr(recipe, "search_size"):
        shares = SIZES if small else FEW_SIZES
        for size in sorted({round(recipe.search_size * share / patch) * patch for share in shares}):
            yield "search_size", float(size), replace(recipe, search_size=size)
