"""What trtrun says on stderr while it runs and when it is done."""

import sys
import time
from pathlib import Path
from typing import Self

from jntrt.runtime.trtrun.run import Tracked
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """A bar with the run's FPS where stderr is a terminal; on leaving, one line of summary."""

    def __init__(self, length: int | None, files: list[Path]) -> None:
        self._files = files
        self._frames = self._lost = 0
        self._tracker_ms = 0.0
        self._began = time.perf_counter()
        self._bar = RichProgress(
            TextColumn("tracking"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]:.1f} FPS"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            redirect_stdout=False,  # stdout carries boxes
            redirect_stderr=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=length, fps=0.0)

    def step(self, tracked: Tracked) -> None:
        """One more frame is done."""
        self._frames += 1
        if tracked.frame > 0:
            self._tracker_ms += tracked.milliseconds
        self._lost += any(tracked.lost)
        self._bar.update(self._task, advance=1, fps=self._frames / self._seconds())

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
        if not self._frames:
            return
        seconds = self._seconds()
        line = f"{self._frames} frames in {seconds:.1f} s ({self._frames / seconds:.1f} FPS"
        if self._frames > 1:
            line += f"; the tracker alone {self._tracker_ms / (self._frames - 1):.1f} ms per frame"
        line += f"), lost in {self._lost}"
        written = ", ".join(str(path) for path in self._files if path.exists())
        print(line + (f"; written: {written}" if written else ""), file=sys.stderr)

    def _seconds(self) -> float:
        return max(1e-9, time.perf_counter() - self._began)
