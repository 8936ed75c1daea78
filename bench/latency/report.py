"""What a latency run says: tables of at most 80 columns with a legend, and a dictionary for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from jntrt.bench.latency.measure import Latency, Timing, speed_ratio
from jntrt.bench.tables import titled_table
from jntrt.export.families import FAMILIES, family
from jntrt.export.families.contract import Published
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.precision import find_precision

LEGEND = """\
decode  the next frame out of the video, as RGB (trtrun decodes in a thread of
        its own beside the tracker)
crop    crop rectangle, pixels cut out, border, scaled: on the host
network the graph, uint8 crop in, box and score out, with upload and download
        where the engine is a GPU (host frame: the crop is uploaded, not the
        whole frame)
box     box back to frame pixels, clip, state
frame   one call of Tracker.update: crop + network + box and what is between
whole   decode + frame, one after the other; FPS = 1000 / mean
p90 …   - : too few frames for it; p90 asks for 64, p95 for 130, p99 for 662
times as fast  median over rounds of the ratio of the rounds' medians, against
        the last row of the table"""
PLAIN_LEGEND = """\
eager   the plain form in PyTorch eager mode, rebuilt from the bundle's recipe
        with random weights; its network includes normalising the crop, which
        our graphs do inside
naive   torch.onnx.export of that plain form in ONNX Runtime, likewise"""


def print_report(latency: Latency, bundles: Mapping[str, Bundle], console: Console) -> None:
    """One table per engine, the comparison where there are several, published figures, legend, warnings."""
    for timing in latency.timings:
        console.print(_stage_table(timing))
        console.print()
    if len(latency.timings) > 1:
        console.print(_comparison(latency.timings))
        console.print()
    for bundle in bundles.values():
        console.print(_published_line(bundle, published_figure(bundle)), highlight=False)
    console.print(LEGEND, highlight=False)
    if any(timing.engine.kind != "bundle" for timing in latency.timings):
        console.print(PLAIN_LEGEND, highlight=False)
    quiet = latency.quiet
    for warning in quiet["warnings"]:
        console.print(f"not a quiet machine: {warning}; do not trust these figures", highlight=False)
    if not quiet["warnings"]:
        steal, others = quiet["steal_share"], quiet["other_processes_share"]
        text = f"quiet machine: steal {steal:.1%}, other processes {others:.1%} of the CPU, steady clock"
        console.print(text, highlight=False)


def to_dict(latency: Latency, bundles: Mapping[str, Bundle], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, for JSON; times in milliseconds."""
    last = latency.timings[-1]
    entries = []
    for timing in latency.timings:
        bundle = bundles[timing.engine.bundle]
        figure = published_figure(bundle)
        entries.append(
            {
                "engine": {**asdict(timing.engine), **timing.description},
                "bundle_sha256": bundle.sha256,
                "graph_sha256": _graph_digests(bundle, timing),
                "rounds": timing.milliseconds.shape[0],
                "frames_per_round": timing.milliseconds.shape[1],
                "stages_ms": timing.summary(),
                "times_as_fast_as_last": {
                    stage: speed_ratio(timing, last, stage) for stage in ("network", "frame")
                },
                "published": None if figure is None else asdict(figure),
            }
        )
    return {"machine": dict(machine), "quiet": latency.quiet, "engines": entries}


def fastest(latency: Latency, bundle: Bundle) -> dict[str, str]:
    """The engine with the least p50 of a whole `Tracker.update` with `bundle`, by precision."""
    best: dict[str, tuple[float, str]] = {}
    for timing in latency.timings:
        engine = timing.engine
        if engine.kind == "bundle" and engine.bundle == str(bundle.path):
            taken = (timing.median("frame"), str(timing.description["backend"]))
            best[engine.precision] = min(taken, best.get(engine.precision, taken))
    return {precision: name for precision, (_, name) in best.items()}


def published_figure(bundle: Bundle) -> Published | None:
    """The figure of the bundle's network; None where nobody published one or its family is unknown here."""
    return family(bundle.family).published(bundle.recipe) if bundle.family in FAMILIES else None


def _stage_table(timing: Timing) -> Table:
    table = titled_table(f"{timing.engine.label} ({_engine_words(timing.description)}), milliseconds")
    table.add_column("stage")
    for column in ("mean", "p50", "p90", "p95", "p99", "FPS"):
        table.add_column(column, justify="right")
    for stage, figures in timing.summary().items():
        shown = (figures[key] for key in ("mean", "p50", "p90", "p95", "p99"))
        times = ["-" if value is None else _milliseconds(value) for value in shown]
        fps = f"{figures['fps']:.1f}" if stage in ("network", "frame", "whole") else ""
        table.add_row(stage, *times, fps)
    return table


def _comparison(timings: Sequence[Timing]) -> Table:
    table = titled_table(f"Times as fast as {timings[-1].engine.label}")
    table.add_column("engine", overflow="fold")
    for column in ("network p50", "network ×", "frame p50", "frame ×"):
        table.add_column(column, justify="right", no_wrap=True)
    for timing in timings:
        table.add_row(
            timing.engine.label,
            _milliseconds(timing.median("network")),
            f"{speed_ratio(timing, timings[-1], 'network'):.2f}",
            _milliseconds(timing.median("frame")),
            f"{speed_ratio(timing, timings[-1], 'frame'):.2f}",
        )
    return table


def _published_line(bundle: Bundle, figure: Published | None) -> str:
    if figure is None:
        return f"published: no figure for the network of {bundle.name}"
    speed = f"{figure.fps:g} FPS ({1e3 / figure.fps:.1f} ms)"
    text = f"published: {figure.model} {speed}, {figure.device}, {figure.scope}"
    return f"{text}; another machine and another scope than above"


def _graph_digests(bundle: Bundle, timing: Timing) -> dict[str, str] | None:
    if timing.engine.kind != "bundle":
        return None
    precision = timing.engine.precision
    entry = bundle.entry(find_precision(precision).stored)
    return {graph: entry[graph]["sha256"] for graph in ("template", "track")}


def _engine_words(description: Mapping[str, Any]) -> str:
    # "2026.4.1-22982-e213a147257-releases/2026/4": what comes after the first dash is in the JSON.
    version = str(description.get("version", "")).split("-")[0]
    words = [str(description["backend"]), version] if "backend" in description else []
    threads = description.get("threads")
    idle = description.get("idle threads")
    said = [" ".join(words)] + [f"threads: {threads}"] * bool(threads) + [f"idle ones {idle}"] * bool(idle)
    return ", ".join(said)


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
