"""A live window, where there is a display and an OpenCV that opens windows."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.results.tracked import Tracked
from jntrt.runtime.video.drawing import annotate

Frame = npt.NDArray[np.uint8]

_TITLE = "trtrun (q stops)"
_STOP_KEYS = {ord("q"), 27}


def has_display() -> bool:
    """Whether a window can be expected to open."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Window:
    """Shows each frame with its boxes; `show` tells whether the run is to go on."""

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Self]:
        """UserError where no window can be opened."""
        import cv2

        if not has_display():
            raise UserError("--show: no display here; --view shows the run in a browser")
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise UserError(
                "--show: this OpenCV opens no window: install opencv-python in place of"
                " opencv-python-headless, or give --view for a browser"
            ) from None
        try:
            yield cls()
        finally:
            cv2.destroyWindow(_TITLE)

    def show(self, frame: Frame, tracked: Tracked) -> bool:
        """Show `frame` (H×W×3 uint8 RGB); False once the user has pressed q or Esc."""
        import cv2

        picture = annotate(frame, list(tracked.boxes), tracked.scores, tracked.lost, number=tracked.frame)
        cv2.imshow(_TITLE, picture[:, :, ::-1])
        return (cv2.waitKey(1) & 0xFF) not in _STOP_KEYS
