"""Trackers without a trained network, for the same table as ours."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.sequences.evaluate import Contestant, Tracks
from jntrt.runtime.errors import UserError

Frame = NDArray[np.uint8]
Box = tuple[float, float, float, float]

# Of the OpenCV wheels: opencv-python has MIL, opencv-contrib-python all of them.
STATIC = "static"  # the first box for ever
_OPENCV = {
    "csrt": "TrackerCSRT_create",
    "kcf": "TrackerKCF_create",
    "mil": "TrackerMIL_create",
    "mosse": "legacy.TrackerMOSSE_create",
    "medianflow": "legacy.TrackerMedianFlow_create",
}
NCC_SEARCH = 2.0  # side of the searched window in units of the target's, as OSTrack's template crop
MIL_SIDE = 6  # pixels; below it OpenCV's MIL searches for features without end
NCC_SIDE = 64  # longest side of the template that is compared, pixels


@dataclass(frozen=True)
class BaselineResult:
    """Box x, y, w, h in pixels, and a presence score (NaN: none)."""

    box: Box
    score: float


class StaticBox:
    """The first box for ever: what a clip gives away for nothing."""

    def init(self, frame: Frame, box: Box) -> None:
        self._box = box

    def update(self, frame: Frame) -> BaselineResult:
        return BaselineResult(self._box, float("nan"))


class TemplateMatching:
    """Normalised cross-correlation of the first frame's target around the last place; the size is kept."""

    def init(self, frame: Frame, box: Box) -> None:
        import cv2

        self._box = box
        self._scale = min(1.0, NCC_SIDE / max(box[2], box[3]))
        x, y, w, h = box
        side = [max(2, round(length * self._scale)) for length in (w, h)]
        patch = cv2.getRectSubPix(
            frame, (max(1, round(w)), max(1, round(h))), (x + w / 2 - 0.5, y + h / 2 - 0.5)
        )
        self._template = cv2.resize(patch, side, interpolation=cv2.INTER_AREA)

    def update(self, frame: Frame) -> BaselineResult:
        import cv2

        x, y, w, h = self._box
        reach = NCC_SEARCH * max(w, h) / 2
        size = (round(w + 2 * reach), round(h + 2 * reach))
        # getRectSubPix repeats the border, so that a target at the edge can still be matched.
        window = cv2.getRectSubPix(frame, size, (x + w / 2 - 0.5, y + h / 2 - 0.5))
        high, wide = self._template.shape[:2]
        shape = (max(wide, round(size[0] * self._scale)), max(high, round(size[1] * self._scale)))
        window = cv2.resize(window, shape, interpolation=cv2.INTER_AREA)
        response = cv2.matchTemplate(window, self._template, cv2.TM_CCOEFF_NORMED)
        _, best, _, (column, row) = cv2.minMaxLoc(response)
        shift_x = (column - (response.shape[1] - 1) / 2) / self._scale
        shift_y = (row - (response.shape[0] - 1) / 2) / self._scale
        height, width = frame.shape[:2]
        # The centre stays in the frame, else the next window would lie outside it.
        x = float(np.clip(x + shift_x, -w / 2, width - w / 2))
        y = float(np.clip(y + shift_y, -h / 2, height - h / 2))
        self._box = (x, y, w, h)
        return BaselineResult(self._box, float(np.clip(best, 0, 1)))


class OpenCVTracker:
    """One of OpenCV's own trackers; where it cannot start or reports a loss, its last box stands."""

    def __init__(self, name: str) -> None:
        self._least = MIL_SIDE if name == "mil" else 1
        self._create = _constructor(name)
        if self._create is None:
            raise UserError(_missing(name))

    def init(self, frame: Frame, box: Box) -> None:
        import cv2

        assert self._create is not None
        self._tracker = self._create()
        # OpenCV's trackers take whole pixels and BGR; a box of less than one pixel would crash some of them.
        x, y, w, h = box
        start = (round(x), round(y), max(self._least, round(w)), max(self._least, round(h)))
        self._box = box
        try:
            self._tracker.init(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), start)
        except cv2.error:  # MIL takes no box that reaches over the frame's border
            self._tracker = None

    def update(self, frame: Frame) -> BaselineResult:
        import cv2

        if self._tracker is None:
            return BaselineResult(self._box, float("nan"))
        found, box = self._tracker.update(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if found:
            self._box = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        return BaselineResult(self._box, float("nan"))


def baseline_names() -> tuple[str, ...]:
    """The baselines that run here: which of OpenCV's there are depends on the wheel."""
    return (STATIC, "ncc", *(name for name in _OPENCV if _constructor(name) is not None))


def baseline(name: str) -> Contestant:
    """The baseline called `name` (static, ncc, csrt, kcf, mil, mosse, medianflow); UserError without it."""
    import cv2

    if name not in (STATIC, "ncc", *_OPENCV):
        raise UserError(f"no baseline is called {name}; there are static, ncc, {', '.join(_OPENCV)}")
    if name in _OPENCV and _constructor(name) is None:
        raise UserError(_missing(name))

    return Contestant(name, {"baseline": name, "opencv": cv2.__version__}, partial(_open, name))


def _open(name: str) -> AbstractContextManager[Tracks]:
    if name == STATIC:
        return nullcontext(StaticBox())
    return nullcontext(TemplateMatching() if name == "ncc" else OpenCVTracker(name))


def _constructor(name: str) -> Callable[[], Any] | None:
    import cv2

    place: Any = cv2
    for part in _OPENCV[name].split("."):
        place = getattr(place, part, None)
    found: Callable[[], Any] | None = place
    return found


def _missing(name: str) -> str:
    return (
        f"this OpenCV has no {name} tracker; install opencv-contrib-python-headless in place of "
        "opencv-python-headless (a separate environment will do)"
    )
