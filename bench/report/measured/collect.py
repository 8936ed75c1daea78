"""A report's content: everything that is measured, section by section, as one JSON document.

`schema.json` in the folder above says what is in it; HTML and Markdown only render it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

from jntrt.bench.latency.measure import measure_latency
from jntrt.bench.latency.worker import TimedEngine
from jntrt.bench.machine import describe_machine
from jntrt.bench.report.measured.engines import latency_section, precisions_of
from jntrt.bench.sequences.clips import Clip
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.errors import UserError

FORMAT = "jntrt-report"
VERSION = 1
SECTIONS = ("latency", "video", "threads", "targets", "cost", "accuracy", "layers", "rtx2080ti")
SWEEP_SECONDS = 0.25  # of a call
Step = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    source, box: the video and the target in it. precisions: none: every one that a bundle has and that runs
    here. seconds: of one call of one engine. data: clips, cut to `max_frames`, and for a tracker that takes
    longer than `tracker_seconds` to what fits; out: where their result files are kept.
    """

    bundles: tuple[Bundle, ...]
    source: str
    box: tuple[float, float, float, float]
    drawn: bool
    backends: tuple[str, ...] = ("auto",)
    precisions: tuple[str, ...] = ()
    threads: int | None = None
    rounds: int = 20
    starts: int = 1
    seconds: float = 0.25
    sections: tuple[str, ...] = SECTIONS
    data: tuple[Path, ...] = ()
    max_frames: int | None = None
    tracker_seconds: float | None = None
    baselines: tuple[str, ...] = ()
    out: Path | None = None


def new_document(command: str, video: Path | None, box: Sequence[float]) -> dict[str, Any]:
    """A report's head, without sections and `seconds`. video: None for the drawn clip; box: as in `Plan`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "machine": describe_machine(),
        "clip": {"source": "drawn" if video is None else video.name, "box": list(box)},
        "left_out": [],
    }


def command_words() -> str:
    """The command as it was given, without the folders of files: a report is shown to others."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["bench-jn", *words])


def collect(plan: Plan, command: str, step: Step) -> dict[str, Any]:
    """Measure the sections of `plan`; step is called with what is done next."""
    begin = perf_counter()
    engines, left_out = _engines(plan)
    clips = _clips(plan)  # a mistake in --data ends the run before it begins
    document = new_document(command, None if plan.drawn else Path(plan.source), plan.box) | {
        "left_out": left_out
    }
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "latency": lambda: _latency(plan, engines, step),
        "video": lambda: _video(plan, step),
        "threads": lambda: _threads(plan, document["machine"]["cores"], step),
        "targets": lambda: _exported(plan, "targets", step),
        "cost": lambda: _exported(plan, "cost", step),
        "accuracy": lambda: _accuracy(plan, engines, clips, document, step),
        "layers": lambda: _layers(plan, engines, document, step),
        "rtx2080ti": lambda: _rtx2080ti(plan, document),
    }
    for name in SECTIONS:
        if name in plan.sections:
            try:
                document |= sections[name]()
            except (_LeftOut, UserError) as reason:
                if name == "latency":  # what a report is made for
                    raise
                document["left_out"].append({"what": name, "why": str(reason)})
    document["seconds"] = round(perf_counter() - begin, 1)
    return document


class _LeftOut(Exception):
    """Why a section is not in the report."""


def _engines(plan: Plan) -> tuple[list[TimedEngine], list[dict[str, str]]]:
    planned, left_out = [], []
    for bundle in plan.bundles:
        for backend in plan.backends:
            taken, why = precisions_of(bundle, plan.precisions, backend)
            left_out += [{"what": f"{bundle.name} {name}", "why": reason} for name, reason in why.items()]
            for precision, found in taken:
                label = f"{bundle.name} {found} {precision}"
                engine = TimedEngine(label, str(bundle.path), plan.source, plan.box)
                planned.append(replace(engine, backend=found, precision=precision, threads=plan.threads))
    planned = list({engine.label: engine for engine in planned}.values())  # auto may be one that is named
    if not planned:
        reasons = "; ".join(f"{row['what']}: {row['why']}" for row in left_out)
        raise UserError(f"nothing to measure: {reasons or 'give bundles'}")
    return planned, left_out


def _latency(plan: Plan, engines: list[TimedEngine], step: Step) -> dict[str, Any]:
    by_path = {str(bundle.path): bundle for bundle in plan.bundles}
    found = measure_latency(
        engines, rounds=plan.rounds, starts=plan.starts, call_seconds=plan.seconds, on_step=step
    )
    return latency_section(found, by_path)


def _video(plan: Plan, step: Step) -> dict[str, Any]:
    from jntrt.bench.report.measured.video_stages import video_stages

    step("drawing and encoding")
    return {"video": video_stages(plan.source, plan.box)}


def _threads(plan: Plan, cores: int, step: Step) -> dict[str, Any]:
    from jntrt.bench.report.measured.sweeps import Sweep, sweep_threads

    sweep = Sweep(plan.source, plan.box, plan.backends[0], plan.threads, SWEEP_SECONDS)
    return {"threads": sweep_threads(sweep, plan.bundles, cores, step)}


def _exported(plan: Plan, name: str, step: Step) -> dict[str, Any]:
    missing = [package for package in ("torch", "onnx") if find_spec(package) is None]
    if missing:
        raise _LeftOut(
            f"its networks are exported for it: pip install 'jntrt[export]' ({missing[0]} is missing)"
        )
    from jntrt.bench.report.measured.sweeps import MAX_SWEPT, Sweep, sweep_cost, sweep_targets

    sweep = Sweep(plan.source, plan.box, plan.backends[0], plan.threads, SWEEP_SECONDS)
    if name == "cost":
        return {"cost": list(chain.from_iterable(sweep_cost(sweep, bundle, step) for bundle in plan.bundles))}
    small = [b for b in plan.bundles if b.manifest.get("macs", {}).get("plain", 0) <= MAX_SWEPT]
    if not small:
        raise _LeftOut(f"the networks take more than {MAX_SWEPT / 1e9:g} G multiply-accumulates")
    return {"targets": list(chain.from_iterable(sweep_targets(sweep, bundle, step) for bundle in small))}


def _clips(plan: Plan) -> list[Clip]:
    if not plan.data or "accuracy" not in plan.sections:
        return []
    from jntrt.bench.report.measured.tradeoff import clips_of

    return clips_of(plan.data, plan.max_frames)


def _accuracy(
    plan: Plan, engines: list[TimedEngine], clips: list[Clip], document: dict[str, Any], step: Step
) -> dict[str, Any]:
    if not clips:
        raise _LeftOut("no --data")
    from jntrt.bench.report.measured.tradeoff import contestants_of, fitting, tradeoff

    by_path = {str(bundle.path): bundle for bundle in plan.bundles}
    frame_ms = {e["label"]: e["stages_ms"]["whole"]["p50"] for e in document.get("engines", ())}
    asked = []
    for engine in engines:
        most = None
        if plan.tracker_seconds is not None:
            if engine.label not in frame_ms:
                raise _LeftOut("--tracker-seconds needs the section latency beside it")
            most = fitting(plan.tracker_seconds, frame_ms[engine.label], clips)
        asked.append((by_path[engine.bundle], engine.backend, engine.precision, most))
    contestants = contestants_of(asked, plan.threads, plan.baselines)
    return {"accuracy": tradeoff(contestants, clips, plan.out, step) | {"max_frames": plan.max_frames}}


def _layers(plan: Plan, engines: list[TimedEngine], document: dict[str, Any], step: Step) -> dict[str, Any]:
    from jntrt.bench.layers import READ, profile_engines

    read = [engine for engine in engines if engine.backend in READ]
    rest = list(dict.fromkeys(engine.backend for engine in engines if engine not in read))
    why = f"layers of {', '.join(rest)} are not read, only of {', '.join(READ)}"
    if not read:
        raise _LeftOut(why)
    if rest:
        document["left_out"].append({"what": "layers", "why": why})
    peaks, found = profile_engines(read, plan.threads, step)
    return {"layers": {"peaks": asdict(peaks), "engines": found}}


def _rtx2080ti(plan: Plan, document: dict[str, Any]) -> dict[str, Any]:
    from jntrt.bench.report.measured.rtx2080ti import rtx2080ti

    engines = document.get("engines", [])
    return {"rtx2080ti": rtx2080ti(plan.bundles, engines, document["machine"]["gpu"])}
