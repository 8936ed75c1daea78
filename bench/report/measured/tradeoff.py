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

LEAST_FRAMES = 10  # of a clip


def clips_of(data: Sequence[Path], most: int | None) -> list[Clip]:
    """The clips at `data`, each cut to its first `most` frames."""
    return _cut(load_clips(data), most)


def _cut(clips: list[Clip], most: int | None) -> list[Clip]:
    if most is None:
        return clips
    return [
        replace(clip, boxes=clip.boxes[:most], visible=clip.visible[:most], images=clip.images[:most])
        for clip in clips
    ]


def fitting(seconds: float, ms: float, clips: Sequence[Clip]) -> int:
    """How many frames of each clip, `LEAST_FRAMES` or more, a tracker of `ms` a frame takes in `seconds`."""
    lengths = sorted(len(clip) for clip in clips)
    left = seconds * 1e3 / ms
    for number, length in enumerate(lengths):
        share = left / (len(lengths) - number)  # what short clips leave goes to the longer ones
        if length > share:
            return max(int(share), LEAST_FRAMES)
        left -= length
    return lengths[-1]


def contestants_of(
    engines: Sequence[tuple[Bundle, str, str, int | None]], threads: int | None, baselines: Sequence[str]
) -> list[tuple[Contestant, dict[str, Any], int | None]]:
    """Contestants with what the report calls them, and how many frames of each clip they see (None: all).

    engines: bundle, backend, precision, frames. Batch 1 alone.
    """
    found: list[tuple[Contestant, dict[str, Any], int | None]] = [
        (
            bundle_contestant(bundle, backend, precision, threads),
            {
                "bundle": bundle.name,
                "precision": precision,
                "kind": bundle.manifest.get("weights", "unknown"),
            },
            most,
        )
        for bundle, backend, precision, most in engines
        if bundle.batch == 1
    ]
    found += [
        (baseline(name), {"bundle": name, "precision": "none", "kind": "classical"}, None)
        for name in baselines
    ]
    return found


def tradeoff(
    contestants: Sequence[tuple[Contestant, dict[str, Any], int | None]],
    clips: list[Clip],
    out: Path | None,
    on_start: Callable[[str], None],
) -> dict[str, Any]:
    """AO and speed of each on the same clips; the speed is that of `update` alone, decoding not in it.

    out: a folder of result files as `bench-jn accuracy` keeps them; what is there is not run again.
    """
    rows = []
    for contestant, about, most in contestants:
        on_start(contestant.name)
        seen = _cut(clips, most)
        figures = _figures(evaluate(contestant, seen, out))
        rows.append({"name": contestant.name, **about, "frames": sum(map(len, seen)), **figures})
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
