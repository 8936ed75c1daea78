"""Accuracy beside speed: every engine and the classical trackers on the same clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jntrt.bench.accuracy.baselines import baseline
from jntrt.bench.accuracy.contestants import bundle_contestant
from jntrt.bench.sequences.clips import Clip, load_clips
from jntrt.bench.sequences.evaluate import Contestant, Evaluation, evaluate
from jntrt.bench.statistics import mean_interval
from jntrt.runtime.bundle import Bundle


def clips_of(data: Sequence[Path], most: int | None) -> list[Clip]:
    """The clips at `data`, each cut to its first `most` frames."""
    clips = load_clips(data)
    if most is None:
        return clips
    return [
        replace(clip, boxes=clip.boxes[:most], visible=clip.visible[:most], images=clip.images[:most])
        for clip in clips
    ]


def contestants_of(
    engines: Sequence[tuple[Bundle, str, str]], threads: int | None, baselines: Sequence[str]
) -> list[tuple[Contestant, dict[str, Any]]]:
    """Contestants with what the report calls them; engines: bundle, backend, precision. Batch 1 alone."""
    found: list[tuple[Contestant, dict[str, Any]]] = [
        (
            bundle_contestant(bundle, backend, precision, threads),
            {
                "bundle": bundle.name,
                "precision": precision,
                "kind": bundle.manifest.get("weights", "unknown"),
            },
        )
        for bundle, backend, precision in engines
        if bundle.batch == 1
    ]
    found += [
        (baseline(name), {"bundle": name, "precision": "none", "kind": "classical"}) for name in baselines
    ]
    return found


def tradeoff(
    contestants: Sequence[tuple[Contestant, dict[str, Any]]],
    clips: Sequence[Clip],
    out: Path | None,
    on_start: Callable[[str], None],
) -> dict[str, Any]:
    """AO and speed of each on the same clips; the speed is that of `update` alone, decoding not in it.

    out: a folder of result files as `bench-jn accuracy` keeps them; what is there is not run again.
    """
    rows = []
    for contestant, about in contestants:
        on_start(contestant.name)
        rows.append({"name": contestant.name, **about, **_figures(evaluate(contestant, clips, out))})
    return {
        "clips": [{"name": clip.name, "frames": len(clip)} for clip in clips],
        "trackers": rows,
    }


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    ao = evaluation.ao_by_clip
    interval = mean_interval(ao[np.isfinite(ao)])
    measures = evaluation.measures
    figures = {
        "ao": measures.ao_clips,
        "ao_low": interval[0] if interval else None,
        "ao_high": interval[1] if interval else None,
        "sr50": measures.sr50_clips,
        "auc": measures.auc_clips,
        "presence_auroc": measures.presence_auroc,
        "ms": evaluation.milliseconds,
        "fps": 1e3 / evaluation.milliseconds,
    }
    return {
        key: None if value is None or not math.isfinite(value) else round(value, 4)
        for key, value in figures.items()
    }
