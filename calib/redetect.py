"""From which likeness a search for a lost target accepts what it finds: measured on clips with absences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.redetection import Redetected, finite, follow_clip, redetected
from jntrt.runtime.bundle import Bundle, change_manifest, copy_bundle
from jntrt.runtime.errors import GateError, UserError
from jntrt.runtime.redetect import Redetection
from jntrt.runtime.tracker import Tracker

THRESHOLDS = (0.36, 0.4, 0.44, 0.48, 0.52, 0.56, 0.6, 0.64, 0.68, 0.72)
WINDOWS = 4  # a frame: figures do not depend on the machine's speed
MOST_WRONG = 0.05  # of the re-detections
MOST_ALARMS = 0.02  # of the clips without an absence

Progress = Callable[[str, int, int], None]


def calibrate_redetection(
    bundle: Bundle,
    clips: Sequence[Clip],
    output: Path | None,
    backend: str,
    threads: int | None,
    progress: Progress,
) -> tuple[Bundle, dict[float, Redetected]]:
    """Measures some of `THRESHOLDS` and writes the chosen one into the manifest of `bundle`, or of its copy.

    Above a threshold fewer are wrong than below it: halving finds the lowest good one in four runs over the
    clips. Returns the bundle and the figures by threshold. UserError without a return or a clip without
    absence; GateError where no threshold is good enough: nothing is written then.
    """
    if not any(clip.absent[1:].any() for clip in clips):
        raise UserError(
            "no clip annotates an absence: give some, such as train-jn sequences --scenes vanishing draws"
        )
    figures: dict[float, Redetected] = {}
    low, high, runs = 0, len(THRESHOLDS), len(THRESHOLDS).bit_length()
    while low < high:
        progress("thresholds", len(figures), runs)
        middle = (low + high) // 2
        threshold = THRESHOLDS[middle]
        options = Redetection(threshold, windows=WINDOWS)
        with Tracker.from_bundle(bundle, backend, threads=threads, redetect=options) as tracker:
            figures[threshold] = redetected([follow_clip(clip, tracker) for clip in clips])
        low, high = (low, middle) if _good(figures[threshold]) else (middle + 1, high)
    threshold = chosen(figures)
    changed = copy_bundle(bundle, output) if output else bundle
    measured = finite(asdict(figures[threshold]))
    counted = {key: value for key, value in measured.items() if not key.endswith("_ms")}  # not this machine's
    entry = {"threshold": threshold, "windows": WINDOWS, **counted}
    return change_manifest(changed, redetect=entry), figures


def chosen(figures: dict[float, Redetected]) -> float:
    """The threshold that finds most of those with at most 5 % wrong ones and 2 % false alarms.

    GateError where there is none.
    """
    good = [threshold for threshold, measured in figures.items() if measured.redetections and _good(measured)]
    if not good:
        best = min(figures.values(), key=lambda measured: (math.isnan(measured.wrong), measured.wrong))
        raise GateError(
            f"at no threshold are at most {MOST_WRONG:.0%} of the re-detections wrong (at best"
            f" {best.wrong:.0%}) and false alarms in at most {MOST_ALARMS:.0%} of the clips;"
            " nothing was written"
        )
    return max(good, key=lambda threshold: (figures[threshold].found, threshold))


def _good(measured: Redetected) -> bool:
    return not (measured.wrong > MOST_WRONG or measured.false_alarms > MOST_ALARMS)
