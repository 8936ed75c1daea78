"""The engines of a report: which there are, what their timings become in its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from jntrt.bench.conditions import to_dict, verdict
from jntrt.bench.latency.measure import Latency, Timing
from jntrt.bench.latency.report import published_figure
from jntrt.bench.latency.worker import STAGES
from jntrt.bench.statistics import median_interval
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines import ON_CPU
from jntrt.runtime.engines.auto import resolve
from jntrt.runtime.engines.precision import AUTO, PRECISIONS, find_precision
from jntrt.runtime.errors import UserError

DIGITS = 5  # after the point, of milliseconds


def precisions_of(
    bundle: Bundle, asked: Sequence[str], backend: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(precision, backend) for all that `bundle` has and that runs here, and why what was asked is left out.

    backend: a name or auto, which is resolved as the tracker does. Nothing asked: all but fp16 graphs on a
    CPU, which computes them in fp32.
    """
    taken, left_out = [], {}
    for name in asked or PRECISIONS:
        stored = None if name == AUTO else find_precision(name).stored
        if stored is not None and stored not in bundle.manifest["precisions"]:
            if asked:
                left_out[name] = f"{bundle.name} has no {stored}"
            continue
        try:
            found = resolve(bundle, name, backend)
        except UserError as error:
            left_out[name] = str(error)
            continue
        if not asked and found.precision.fp16 and found.backend.name in ON_CPU:
            left_out[name] = "a CPU computes fp16 graphs in fp32"
            continue
        taken.append((found.precision.name, found.backend.name))
    return taken, left_out


def latency_section(latency: Latency, bundles: Mapping[str, Bundle]) -> dict[str, Any]:
    """What a report has of a run: its engines and the machine's conditions; bundles: by path."""
    return {
        "engines": [
            engine_entry(timing, bundles[timing.engine.bundle], latency) for timing in latency.timings
        ],
        "conditions": {"quiet": latency.quiet, **to_dict(latency.samples)},
    }


def engine_entry(timing: Timing, bundle: Bundle, latency: Latency) -> dict[str, Any]:
    """Everything about one engine's run, for JSON: times in milliseconds.

    Digests, check and gate are the graph's: a plain form has none, and a graph that the engine computes in
    another precision than its own (bf16) was neither checked nor judged in that one.
    """
    precision = find_precision(timing.engine.precision)
    stored = bundle.entry(precision.stored) if timing.engine.kind == "bundle" else {}
    judged = stored if precision.name == precision.stored else {}
    rounds = {name: np.median(timing.stage(name), axis=1) for name in STAGES}
    ratios = {name: timing.over_reference(name) for name in STAGES}
    reference = np.median(timing.reference, axis=1)
    word, reasons = verdict(
        latency.samples, rounds["frame"], reference, timing.median("decode"), timing.median("frame")
    )
    published = published_figure(bundle)
    return {
        "label": timing.engine.label,
        "bundle": bundle.name,
        "family": bundle.family,
        "weights": bundle.manifest.get("weights", "unknown") if stored else "untrained",
        "backend": str(timing.description.get("backend", timing.engine.backend)),
        "precision": precision.name,
        "threads": timing.description.get("threads"),
        "targets": bundle.batch,
        "about": timing.description,
        "bundle_sha256": bundle.sha256,
        "graph_sha256": {graph: stored[graph]["sha256"] for graph in ("template", "track")}
        if stored
        else None,
        "macs": bundle.manifest.get("macs"),
        "check": judged.get("check"),
        "gate": judged.get("gate"),
        "start_ms": {key: round(value, 2) for key, value in timing.start.items()},
        "stages_ms": stages(timing),
        "rounds": [
            {
                "start": int(timing.starts[k]),
                "second": round(float(timing.seconds[k]), 3),
                "reference_ms": round(float(reference[k]), DIGITS),
                "stages_ms": {name: round(float(rounds[name][k]), DIGITS) for name in STAGES},
                "over_reference": {name: round(float(ratios[name][k]), DIGITS) for name in STAGES},
            }
            for k in range(len(timing.seconds))
        ],
        "frames_ms": np.round(timing.stage("frame"), DIGITS).tolist(),
        "verdict": {"word": word, "reasons": reasons},
        "published": None if published is None else asdict(published),
    }


def stages(timing: Timing) -> dict[str, dict[str, float | None]]:
    """Each stage's mean, percentiles, FPS and the median's 95 % interval over rounds."""
    found = timing.summary()
    for name, figures in found.items():
        low, high = median_interval(timing.stage(name)) or (None, None)
        figures |= {"low": low, "high": high}
    return {
        name: {key: None if value is None else round(value, DIGITS) for key, value in figures.items()}
        for name, figures in found.items()
    }
