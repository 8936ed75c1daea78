"""Where a network's time goes, layer by layer, and how near each comes to what the machine can do."""

import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jntrt.bench.latency.worker import TimedEngine
from jntrt.bench.layers.onnxruntime_profile import read_profile
from jntrt.bench.layers.openvino_counters import counted, layers_of
from jntrt.bench.layers.peaks import Peaks, measure_peaks
from jntrt.bench.layers.work import Layer, graph_macs
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines import ON_CPU
from jntrt.runtime.engines.auto import open_pair, resolve
from jntrt.runtime.engines.openvino import OpenVino
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker

READ = ON_CPU  # backends whose layers are read
WARM, RUNS = 3, 15
WORST = 10


def profile_engines(
    engines: Sequence[TimedEngine], threads: int | None, step: Callable[[str], None]
) -> tuple[Peaks, list[dict[str, Any]]]:
    """The machine's peaks, and every engine's layers for JSON (`summarise`).

    Peaks are measured before and after, the better of each counts: a shared machine has slow moments. step is
    called with what comes next.
    """
    step("peaks of this machine")
    before, found = measure_peaks(threads), []
    for engine in engines:
        step(f"layers of {engine.label}")
        found.append(profile_engine(engine))
    step("peaks of this machine")
    peaks = before.or_better(measure_peaks(threads))
    return peaks, [
        {"label": engine.label, "precision": engine.precision, "runs": RUNS}
        | summarise(layers, network, peaks)
        for engine, (network, layers) in zip(engines, found, strict=True)
    ]


def profile_engine(engine: TimedEngine) -> tuple[float, list[Layer]]:
    """Median milliseconds of an engine's track graph without a profile, and its layers with one; it runs in a
    process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_profile, engine).result()


def summarise(layers: list[Layer], network_ms: float, peaks: Peaks) -> dict[str, Any]:
    """Layers, blocks and the worst layers, with their limits; network_ms: the whole, timed without profile.

    A layer's `limit_ms` is the roofline's: its products at its precision's peak, or its bytes at the speed of
    a copy; `share` is limit over time.
    """
    rows = []
    for layer, name in zip(layers, _told_apart(layers), strict=True):
        limit = peaks.limit(layer.precision, layer.macs, layer.moved) * 1e3
        rows.append({**asdict(layer), "name": name, "limit_ms": limit, "share": _share(limit, layer.ms)})
    blocks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for key in ("ms", "macs", "moved", "limit_ms"):
            blocks[row["block"]][key] += row[key]
    worst = sorted(rows, key=lambda row: row["limit_ms"] - row["ms"])[:WORST]
    total = sum(layer.ms for layer in layers)
    return {
        "network_ms": network_ms,
        "sum_ms": total,
        "sum_over_network": total / network_ms,
        "macs": sum(layer.macs for layer in layers if not layer.attention),
        "attention_macs": sum(layer.macs for layer in layers if layer.attention),
        "blocks": [
            {"block": name, **found, "share": _share(found["limit_ms"], found["ms"])}
            for name, found in blocks.items()
        ],
        "worst": [row["name"] for row in worst],
        "layers": rows,
    }


def _told_apart(layers: Sequence[Layer]) -> list[str]:
    """Names, each once: before one that the engine has made (BiasGelu) stands its block."""
    names, seen = [], Counter[str]()
    for layer in layers:
        name = layer.name if "/" in layer.name else f"{layer.block}/{layer.name}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names


def _share(limit: float, ms: float) -> float | None:
    return limit / ms if ms > 0 else None


def _profile(engine: TimedEngine) -> tuple[float, list[Layer]]:
    """Median milliseconds of the network without a profile, and its layers with one."""
    bundle = Bundle.open(engine.bundle)
    found = resolve(bundle, engine.precision, engine.backend)
    backend, precision = found.backend.name, found.precision
    if backend not in READ:
        raise UserError(f"layers of {backend} are not read here: --backend {','.join(READ)}")
    frames = _frames(engine.source)

    def opened(profile: Path | None) -> Pair:
        options = EngineOptions(threads=engine.threads, profile=profile)
        return open_pair(bundle, precision.name, options, backend)[0]

    def step(tracker: Tracker) -> float:
        tracker.state = np.array([engine.box] * bundle.batch)
        tracker.update(next(frames))
        return tracker.stage_ms["network"]

    def started(pair: Pair) -> Tracker:
        tracker = Tracker(bundle, pair)
        tracker.init(next(frames), np.array([engine.box] * bundle.batch))
        for _ in range(WARM):
            step(tracker)
        return tracker

    with started(opened(None)) as tracker:
        network = float(np.median([step(tracker) for _ in range(RUNS)]))
    graph = bundle.graph("track", precision.stored)
    macs = graph_macs(graph)
    with TemporaryDirectory(prefix="jntrt-bench-") as folder:
        pair = opened(Path(folder))
        with started(pair) as tracker:
            if isinstance(pair.track, OpenVino):
                compiled, request = pair.track.profiled
                runs = []
                for _ in range(RUNS):
                    step(tracker)
                    runs.append(counted(request))
                return network, layers_of(compiled, runs, macs)
            for _ in range(RUNS):
                step(tracker)
        return network, read_profile(next(Path(folder).glob(f"{graph.name}*.json")), RUNS, macs)


def _frames(source: str) -> Iterator[Any]:
    from jntrt.runtime.video.sources import frames

    while True:
        with frames(Path(source), ahead=0) as reader:
            yield from reader
