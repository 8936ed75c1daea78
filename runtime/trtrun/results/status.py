"""What trtrun says on stderr while it runs and when it is done."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from jntrt.runtime.command.progress import progress_bar
from jntrt.runtime.trtrun.results.tracked import Tracked

if TYPE_CHECKING:
    from rich.progress import Progress

_WINDOW = 30  # frames that the speed is taken over


class Status:
    """A bar with the run's speed and the target where stderr is a terminal; on leaving, a line of summary.

    `fps` is the speed of the whole run over the last frames: decoding, tracking and writing, None before
    frame 1; `wrote`, the last frame's milliseconds of writing. The summary says which of them took longest.
    Of several sources at once each has its `name` and a line `among` those of a common bar, which somebody
    else starts.
    """

    def __init__(
        self,
        length: int | None,
        files: list[Path],
        *,
        bar: bool = True,
        live: bool,
        name: str = "",
        among: "Progress | None" = None,
    ) -> None:
        self._files, self._live = files, live
        self._frames = self._lost = self._found = 0
        self._spent = {"decoding": 0.0, "the tracker": 0.0, "writing": 0.0}  # milliseconds
        self.wrote = 0.0
        self._ends: deque[float] = deque(maxlen=_WINDOW + 1)
        self._began = time.perf_counter()
        self._name, self._own = name, among is None
        self._bar = among or progress_bar("tracking", "{task.fields[note]}")
        self._bar.disable |= not bar
        self._task = self._bar.add_task(name, total=length, note="")

    @property
    def fps(self) -> float | None:
        if len(self._ends) < 2:
            return None
        return (len(self._ends) - 1) / max(1e-9, self._ends[-1] - self._ends[0])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Times what is written of a frame."""
        began = time.perf_counter()
        yield
        self.wrote = 1e3 * (time.perf_counter() - began)
        self._spent["writing"] += self.wrote

    def step(self, tracked: Tracked) -> None:
        """One more frame is done."""
        self._frames += 1
        self._ends.append(time.perf_counter())
        if self._frames > 1:  # the first is the start of the tracker, not a step of it
            self._spent["the tracker"] += tracked.milliseconds
            self._spent["decoding"] += tracked.waited
        self._lost += any(tracked.lost)
        self._found += sum(tracked.redetected)
        note = f"{self.fps:.1f} FPS, bound by {self._bound_by()}" if self.fps else ""
        if len(tracked.boxes) == 1:
            note += "  " + ",".join(f"{value:.0f}" for value in tracked.boxes[0])
        if any(tracked.lost):
            note += " lost"
        self._bar.update(self._task, completed=self._frames, note=note)

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        if self._own:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._own:
            self._bar.stop()
        else:
            self._bar.remove_task(self._task)
        if not self._frames:
            return
        seconds = max(1e-9, time.perf_counter() - self._began)
        line = f"{self._name}: " if self._name else ""
        plural = "s" if self._frames > 1 else ""
        line += f"{self._frames} frame{plural} in {seconds:.1f} s ({self._frames / seconds:.1f} FPS"
        if self._frames > 1:
            alone = self._spent["the tracker"] / (self._frames - 1)
            line += f", bound by {self._bound_by()}; the tracker alone {alone:.1f} ms per frame"
        line += f"), lost in {self._lost}"
        if self._found:
            line += f", found again {self._found} times"
        written = ", ".join(str(path) for path in self._files if path.exists())
        sys.stderr.write(line + (f"; written: {written}" if written else "") + "\n")  # whole, among threads

    def _bound_by(self) -> str:
        longest = max(self._spent, key=lambda part: self._spent[part])
        return "the camera or stream" if longest == "decoding" and self._live else longest
