"""What tracking and viewers share: the latest frame goes one way, orders come back the other.

The tracking thread calls `choose` once and `show` after every frame; it waits there only while it is paused.
The server's threads read `state` and `latest`, and give `order`s.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from threading import Condition
from typing import Any

import numpy as np
import numpy.typing as npt

from jntrt.runtime.errors import UserError

Frame = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float64]  # targets × 4: x, y, w, h in pixels
Box = tuple[float, float, float, float]

HISTORY = 2000  # scores kept for viewers that come late


class Phase(str, Enum):
    """What the run is doing: waiting for boxes, tracking, paused, or over."""

    CHOOSE = "choose"
    RUN = "run"
    PAUSE = "pause"
    END = "end"


class Stopped(UserError):
    """The viewer stopped the run before it had a box."""


@dataclass(frozen=True)
class Shown:
    """A frame to be looked at: `image` H×W×3 uint8 RGB, what was found in it, and whether it stands still."""

    number: int
    index: int  # of the frame in its source
    image: Frame
    boxes: Boxes
    scores: tuple[float | None, ...]
    lost: tuple[bool, ...]
    still: bool


class Session:
    """One run that is looked at. `least` to `most` targets can be drawn; `threshold` is that of presence."""

    def __init__(
        self, name: str, *, length: int | None, threshold: float, least: int = 1, most: int = 1
    ) -> None:
        self._about = {"name": name, "length": length, "threshold": threshold, "least": least, "most": most}
        self._least, self._most = least, most
        self._changed = Condition()
        self._phase = Phase.CHOOSE
        self._shown: Shown | None = None
        self._drawn: dict[int, Box] = {}
        self._steps = self._count = 0
        self._stands = False  # whether the frame that a pause began with has come
        self._history: deque[tuple[int, tuple[float | None, ...]]] = deque(maxlen=HISTORY)
        self._stopped = False

    # --- the tracking thread's side

    def choose(self, frame: Frame) -> Boxes:
        """Show the first frame (H×W×3 uint8 RGB) and wait for the targets' boxes (targets × 4).

        Raises Stopped where a viewer stops the run instead.
        """
        with self._changed:
            self._shown = Shown(1, 0, frame, np.empty((0, 4)), (), (), still=True)
            self._changed.wait_for(lambda: self._drawn or self._stopped)
            if self._stopped:
                raise Stopped("stopped in the page, before a box was drawn")
            return self._take_drawn()

    def show(
        self,
        index: int,
        frame: Frame,
        boxes: Boxes,
        scores: tuple[float | None, ...],
        lost: tuple[bool, ...],
    ) -> dict[int, Box]:
        """Show frame `index` and what was found in it; while paused, wait.

        Returns the boxes that were drawn anew on this very frame, by target: the tracker has to start again
        from them. `frame` must not be changed afterwards.
        """
        with self._changed:
            number = self._shown.number + 1 if self._shown else 1
            if self._phase is Phase.CHOOSE:  # the boxes were given and not drawn
                self._phase = Phase.RUN
            self._history.append((index, scores))
            self._count += 1
            self._stands = self._phase is Phase.PAUSE
            self._shown = Shown(number, index, frame, boxes, scores, lost, still=self._stands)
            self._changed.wait_for(lambda: self._phase is not Phase.PAUSE or self._steps > 0)
            self._steps = max(0, self._steps - 1)
            drawn, self._drawn = self._drawn, {}
            return drawn

    def end(self) -> None:
        """The run is over: viewers get the last frame and are told."""
        with self._changed:
            self._phase = Phase.END
            if self._shown is not None:
                self._shown = replace(self._shown, number=self._shown.number + 1, still=True)

    def stop(self) -> None:
        """End the run as a viewer's "stop" does; made for signal handlers too."""
        with self._changed:
            self._stopped = True
            self._phase = Phase.RUN  # a paused run wakes up and finds that it was stopped
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether a viewer asked for the end of the run."""
        return self._stopped

    # --- the viewers' side

    @property
    def latest(self) -> Shown | None:
        """The newest frame, None before the first."""
        return self._shown

    @property
    def over(self) -> bool:
        return self._phase is Phase.END

    def state(self, since: int) -> tuple[dict[str, Any], int]:
        """What a page shows, with the scores after the first `since`; and the count to ask from next."""
        with self._changed:
            fresh = min(self._count - since, len(self._history))
            scores = list(self._history)[len(self._history) - fresh :] if fresh > 0 else []
            phase = Phase.RUN if self._phase is Phase.PAUSE and not self._stands else self._phase
            state: dict[str, Any] = {"phase": phase, **self._about, "scores": scores}
            if self._shown is not None:
                height, width = self._shown.image.shape[:2]
                state |= {
                    "number": self._shown.number,
                    "frame": self._shown.index,
                    "size": [width, height],
                    "boxes": [[round(value, 1) for value in box] for box in self._shown.boxes.tolist()],
                    "lost": self._shown.lost,
                }
            return state, self._count

    def order(self, words: Any) -> None:
        """Do what a viewer asks for: {"do": "track", "boxes": [[x, y, w, h] or null, …]} (null: this target
        stays as it is), or "pause", "resume", "step", "stop". Raises UserError where it cannot be done.
        """
        do = words.get("do") if isinstance(words, dict) else None
        with self._changed:
            if self._phase is Phase.END:
                raise UserError("the run is over")
            if do == "stop":
                self.stop()
            elif do == "track":
                self._drawn = self._checked(words.get("boxes"))
                self._phase = Phase.RUN
            elif self._phase is Phase.CHOOSE:
                raise UserError("draw a box first")
            elif do == "pause":
                self._phase = Phase.PAUSE
            elif do == "resume":
                self._phase = Phase.RUN
            elif do == "step":
                self._steps += self._phase is Phase.PAUSE
                self._phase = Phase.PAUSE
            else:
                raise UserError("no such order")
            self._steps *= self._phase is Phase.PAUSE
            self._changed.notify_all()

    def _take_drawn(self) -> Boxes:
        boxes = [self._drawn[target] for target in sorted(self._drawn)]
        self._drawn = {}
        return np.array(boxes, np.float64)

    def _checked(self, boxes: Any) -> dict[int, Box]:
        """The boxes of an order by target; UserError where one is no box, or their number is wrong."""
        choosing = self._phase is Phase.CHOOSE
        targets = self._most if choosing or self._shown is None else len(self._shown.boxes)
        if not isinstance(boxes, list) or len(boxes) > targets:
            raise UserError(f"draw at most {targets} boxes")
        drawn = {target: self._checked_box(box) for target, box in enumerate(boxes) if box is not None}
        if len(drawn) < (self._least if choosing else 1):
            raise UserError(f"draw {self._least} boxes first" if self._least > 1 else "draw a box first")
        return drawn

    def _checked_box(self, box: Any) -> Box:
        if self._shown is None:
            raise UserError("there is no frame yet")
        height, width = self._shown.image.shape[:2]
        numbers = isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) for v in box)
        if not numbers or not all(math.isfinite(value) for value in box):
            raise UserError("a box is four numbers: x, y, w, h")
        x, y, w, h = box
        if w < 1 or h < 1 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise UserError("the box has to be at least a pixel large and lie in the frame")
        return float(x), float(y), float(w), float(h)
