"""Where a network's time goes, layer by layer, and how near each comes to what the machine can do."""

import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jntrt.bench.cards import card_of
from jntrt.bench.latency.worker import TimedEngine
from jntrt.bench.layers.onnxruntime_profile import read_profile
from jntrt.bench.layers.openvino_counters import counted, layers_of
from jntrt.bench.layers.peaks import Peaks, gpu_peaks, measure_peaks
from jntrt.bench.layers.tensorrt_profile import LayerTimes
from jntrt.bench.layers.tensorrt_profile import layers_of as tensorrt_layers
from jntrt.bench.layers.work import Layer, attention_products, graph_macs
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines import ON_CPU
from jntrt.runtime.engines.auto import open_pair, resolve
from jntrt.runtime.engines.graph.onnx_bytes import read_nodes
from jntrt.runtime.engines.openvino import OpenVino
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.tensorrt.build import FLAVOURS
from jntrt.runtime.engines.tensorrt.engine import TensorRT
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker

READ = (*ON_CPU, *FLAVOURS)  # backends whose layers are read
WARM, RUNS = 3, 15
WORST = 10


@dataclass(frozen=True)
class Profile:
    """Median milliseconds of an engine's track graph without a profile, and its layers with one.

    gpu: that it ran on, by the driver's name; "": on the CPU. lost: nodes of the graph with products that no
    layer names.
    """

    network_ms: float
    layers: list[Layer]
    gpu: str = ""
    lost: tuple[str, ...] = ()


def profile_engines(
    engines: Sequence[TimedEngine], threads: int | None, step: Callable[[str], None]
) -> tuple[Peaks, list[dict[str, Any]]]:
    """The machine's peaks, and every engine's layers for JSON (`summarise`).

    Peaks are measured before and after, the better of each counts: a shared machine has slow moments. A GPU's
    are its data sheet's. step is called with what comes next.
    """
    step("peaks of this machine")
    before, found = measure_peaks(threads), []
    for engine in engines:
        step(f"layers of {engine.label}")
        found.append(profile_engine(engine))
    step("peaks of this machine")
    peaks = before.or_better(measure_peaks(threads))
    return peaks, [
        {"label": engine.label, "precision": engine.precision, "runs": RUNS, "notes": notes(profile)}
        | summarise(profile.layers, profile.network_ms, gpu_peaks(profile.gpu) if profile.gpu else peaks)
        for engine, profile in zip(engines, found, strict=True)
    ]


def notes(profile: Profile) -> list[str]:
    """What a reader of a profile has to know: where a GPU's limits are from, and what was not mapped."""
    said = []
    if profile.gpu:
        card = card_of(profile.gpu)
        said.append(
            f"no limits: {profile.gpu} is not in the table of GPUs"
            if card is None
            else f"limits: the data sheet of the {card.name}, bytes at what copies achieve"
        )
    if profile.lost:
        some = f"{', '.join(profile.lost[:3])}{' …' if len(profile.lost) > 3 else ''}"
        said.append(f"products of {len(profile.lost)} nodes are not counted, no layer names them: {some}")
    return said


def profile_engine(engine: TimedEngine) -> Profile:
    """Times an engine and its layers in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_profile, engine).result()


def summarise(layers: list[Layer], network_ms: float, peaks: Peaks | None) -> dict[str, Any]:
    """Layers, blocks and the worst layers, with their limits; network_ms: the whole, timed without profile.

    A layer's `limit_ms` is the roofline's: its products at its precision's peak, or its bytes at the speed of
    a copy; `share` is limit over time. Both are None without peaks; the worst layers then take longest.
    """
    rows = []
    for layer, name in zip(layers, _told_apart(layers), strict=True):
        limit = None if peaks is None else peaks.limit(layer.precision, layer.macs, layer.moved) * 1e3
        rows.append({**asdict(layer), "name": name, "limit_ms": limit, "share": _share(limit, layer.ms)})
    blocks: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for key in ("ms", "macs", "moved"):
            blocks[row["block"]][key] += row[key]
        blocks[row["block"]]["limit_ms"] = (
            None if peaks is None else blocks[row["block"]]["limit_ms"] + row["limit_ms"]
        )
    worst = sorted(rows, key=lambda row: (row["limit_ms"] or 0.0) - row["ms"])[:WORST]
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


def _share(limit: float | None, ms: float) -> float | None:
    return limit / ms if limit is not None and ms > 0 else None


def _profile(engine: TimedEngine) -> Profile:
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
                return Profile(network, layers_of(compiled, runs, macs))
            if isinstance(pair.track, TensorRT):
                times, runs = LayerTimes(pair.track), []
                for _ in range(RUNS):
                    step(tracker)
                    runs.append(times.counted())
                nodes = [node.name for node in read_nodes(graph.read_bytes())]
                layers, lost = tensorrt_layers(
                    times.described(), runs, macs, nodes, attention_products(graph), tf32=precision.tf32
                )
                return Profile(network, layers, pair.track.device.info.name, tuple(lost))
            for _ in range(RUNS):
                step(tracker)
        return Profile(network, read_profile(next(Path(folder).glob(f"{graph.name}*.json")), RUNS, macs))


def _frames(source: str) -> Iterator[Any]:
    from jntrt.runtime.video.sources import frames

    while True:
        with frames(Path(source), ahead=0) as reader:
            yield from reader
