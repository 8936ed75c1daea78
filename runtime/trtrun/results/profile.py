"""Where the time of a run went, stage by stage (`trtrun --profile`)."""

import sys
import time
from collections.abc import Mapping
from json import dumps
from typing import Any

import numpy as np

from jntrt.runtime.trtrun.results.tracked import Tracked

_ENOUGH = 64  # frames that a p90 needs behind it
_TRACKER = ("crop", "network", "box", "search")
_IN_THREAD = ("draw", "encode")  # beside the tracker
_STAGES = {
    "decode wait": "for the next frame, which a thread decodes ahead",
    "crop": "the search crop, on the host",
    "network": "the graph, with upload and download where it is on a GPU",
    "box": "box to frame pixels, clip, state",
    "search": "windows for a lost target, and what else looks like it (--redetect)",
    "write": "box files, lines, and the wait for room in the video's thread",
    "draw": "boxes into the picture, after --save-height; in a thread beside",
    "encode": "the picture into the video; in that thread",
    "whole": "from one frame's end to the next one's",
}


class Profile:
    """Times of one run's stages, in milliseconds; `add` may be called from the thread that encodes.

    began: when the run began (`time.perf_counter`).
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._first_box = self._template = 0.0
        self._times: dict[str, list[float]] = {stage: [] for stage in _STAGES}
        self._ended: float | None = None

    def add(self, stage: str, milliseconds: float) -> None:
        """A stage of one frame."""
        self._times[stage].append(milliseconds)

    def frame(self, tracked: Tracked, stages: Mapping[str, float], written: float) -> None:
        """A frame is done: `stages` are its tracker's `stage_ms`, its results took `written` to hand over.

        The first is the one that the template is cut from.
        """
        now = time.perf_counter()
        if self._ended is None:
            self._template = tracked.milliseconds
        else:
            if not self._times["whole"]:
                self._first_box = 1e3 * (now - self._began)
            self.add("decode wait", tracked.waited)
            for stage in _TRACKER:
                if stage in stages:
                    self.add(stage, stages[stage])
            self.add("write", written)
            self.add("whole", 1e3 * (now - self._ended))
        self._ended = now

    def bound_by(self, *, live: bool) -> str:
        """The stage that the run waited for most, and its share of the time between frames.

        live: frames come from a camera or stream.
        """
        spent = {stage: sum(times) for stage, times in self._times.items()}
        parts = {
            "decode wait": spent["decode wait"],
            "tracker": sum(spent[stage] for stage in _TRACKER),
            "write": spent["write"],
        }
        longest = max(parts, key=lambda part: parts[part])
        share = parts[longest] / max(spent["whole"], 1e-9)
        if longest == "decode wait":
            name = "the camera or stream" if live else "decoding"
        else:  # of what the longest part consists of, or waits for
            inside = _TRACKER if longest == "tracker" else (*_IN_THREAD, "write")
            name = max(inside, key=lambda stage: spent[stage])
        return f"{name}: {min(share, 1):.0%} of the time between frames goes to {longest}"

    def lines(self, *, live: bool = False) -> list[str]:
        """The table, at most 80 columns wide, and the verdict; none where nothing was tracked."""
        frames = len(self._times["whole"])
        if not frames:
            return []
        told = [f"{'stage':<12}{'p50':>9}{'p90':>9}{'longest':>9}{'total':>10}"]
        for stage, times in self._times.items():
            if times:
                p90 = f"{np.percentile(times, 90):9.2f}" if len(times) >= _ENOUGH else f"{'':>9}"
                total = f"{sum(times) / 1e3:8.2f} s"
                told.append(f"{stage:<12}{np.median(times):9.2f}{p90}{max(times):9.2f}{total}")
        few = f" (p90 from {_ENOUGH} frames on)" if frames < _ENOUGH else ""
        return [
            f"start to first box {self._first_box:.0f} ms, of which template {self._template:.1f} ms",
            f"milliseconds of a frame, {frames} frames{few}",
            *told,
            f"bound by {self.bound_by(live=live)}",
            *(f"{stage:<12}{text}" for stage, text in _STAGES.items() if self._times[stage]),
        ]

    def to_dict(self, *, live: bool = False) -> dict[str, Any]:
        """For JSON: milliseconds, null of p90 with too few frames."""
        frames = len(self._times["whole"])
        stages = {
            stage: {
                "p50": float(np.median(times)),
                "p90": float(np.percentile(times, 90)) if len(times) >= _ENOUGH else None,
                "longest": max(times),
                "total": sum(times),
            }
            for stage, times in self._times.items()
            if times
        }
        start = {"first_box_ms": self._first_box, "template_ms": self._template}
        bound = self.bound_by(live=live) if frames else None
        return {"profile": {**start, "frames": frames, "stages_ms": stages, "bound_by": bound}}

    def report(self, *, live: bool, json: bool = False) -> None:
        """Print it on stderr, as a table or as one line of JSON."""
        for line in [dumps(self.to_dict(live=live))] if json else self.lines(live=live):
            print(line, file=sys.stderr)
