"""What trtrun does between its options and its files: frame after frame, for one target or several."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from jntrt.runtime.trtrun.results.tracked import Boxes, Tracked

if TYPE_CHECKING:
    from jntrt.runtime.result import TrackResult
    from jntrt.runtime.tracker import Tracker

Frame = npt.NDArray[np.uint8]


class Follows(Protocol):
    """What `follow` needs of a tracker."""

    def init(self, frame: Frame, boxes: npt.ArrayLike) -> None: ...

    def update(self, frame: Frame) -> "TrackResult": ...


class OneEach:
    """Several targets on a bundle of one: a tracker for each, called in turn, as one tracker."""

    def __init__(self, trackers: "Sequence[Tracker]") -> None:
        self._trackers = trackers

    def init(self, frame: Frame, boxes: npt.ArrayLike) -> None:
        """Show the targets: `frame` H×W×3 uint8, a box x, y, w, h in pixels for each tracker."""
        for tracker, box in zip(self._trackers, np.asarray(boxes), strict=True):
            tracker.init(frame, box)

    def init_some(self, frame: Frame, boxes: Mapping[int, npt.ArrayLike]) -> None:
        """Show some of the targets anew: their boxes by the target's index."""
        for target, box in boxes.items():
            self._trackers[target].init(frame, box)

    @property
    def stage_ms(self) -> dict[str, float]:
        """The last update's milliseconds, of all trackers together, as `Tracker.stage_ms`."""
        stages = self._trackers[0].stage_ms
        return {stage: sum(tracker.stage_ms[stage] for tracker in self._trackers) for stage in stages}

    def update(self, frame: Frame) -> "TrackResult":
        """Find the targets in the next frame; boxes B×4, scores, lost and redetected B."""
        from jntrt.runtime.result import TrackResult

        results = [tracker.update(frame) for tracker in self._trackers]
        scores = np.array([result.score for result in results], np.float64)
        lost = np.array([result.lost for result in results])
        redetected = np.array([result.redetected for result in results])
        return TrackResult(np.stack([result.box for result in results]), scores, lost, redetected)


def follow(
    tracker: Follows, first: Frame, frames: Iterable[tuple[int, Frame]], boxes: Boxes, number: int = 0
) -> Iterator[tuple[Frame, Tracked]]:
    """Start `tracker` on `first` with `boxes` (B×4) and yield each frame, `first` too, with its boxes.

    frames: those after `first`, with their numbers in the source; `number` is that of `first`.
    """
    began = time.perf_counter()
    tracker.init(first, boxes[0] if len(boxes) == 1 else boxes)
    count = len(boxes)
    elapsed = 1e3 * (time.perf_counter() - began)
    yield first, Tracked(number, boxes, (None,) * count, (False,) * count, elapsed)
    frames = iter(frames)
    while True:
        asked = time.perf_counter()
        number, frame = next(frames, (0, None))
        if frame is None:
            return
        began = time.perf_counter()
        result = tracker.update(frame)
        elapsed = 1e3 * (time.perf_counter() - began)
        scores = tuple(float(score) for score in np.atleast_1d(result.score)[:count])
        lost = tuple(bool(flag) for flag in np.atleast_1d(result.lost)[:count])
        again = tuple(bool(flag) for flag in np.atleast_1d(result.redetected)[:count])
        found = np.atleast_2d(result.box)[:count]  # a batch may have idle rows after them
        yield frame, Tracked(number, found, scores, lost, elapsed, 1e3 * (began - asked), again)
