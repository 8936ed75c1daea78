"""The latest frame as a JPEG, made once however many watch, and not at all while nobody does."""

import time
from threading import Lock

import cv2
import numpy as np
import numpy.typing as npt

from jntrt.runtime.video.drawing import annotate
from jntrt.runtime.view.session import Session, Shown

PER_SECOND = 25
MOVING_SIDE = 960  # pixels of the longer side while it runs: an eighth of 1080p's work per picture
STILL_SIDE = 4096  # a box is drawn on a picture that stands still: as sharp as a browser takes it


class Pictures:
    """JPEGs of a session's latest frame. The viewers' threads share one `Pictures`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = Lock()
        self._number, self._made, self._jpeg = 0, 0.0, b""

    def newest(self, after: int) -> tuple[int, bytes] | None:
        """The newest picture's number and bytes, None where there is none that is newer than `after`."""
        with self._lock:
            shown = self._session.latest
            if shown is None:
                return None
            now = time.monotonic()
            if shown.number > self._number and (shown.still or now - self._made >= 1 / PER_SECOND):
                self._jpeg = _jpeg(shown)
                self._number, self._made = shown.number, now
            return (self._number, self._jpeg) if self._number > after else None


def _jpeg(shown: Shown) -> bytes:
    """`shown` with its boxes drawn in, scaled down where it is large."""
    height, width = shown.image.shape[:2]
    scale = min(1.0, (STILL_SIDE if shown.still else MOVING_SIDE) / max(height, width))
    picture, boxes = shown.image, shown.boxes
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # A quick filter while the picture moves; one that keeps small targets visible when it stands.
        filter_ = cv2.INTER_AREA if shown.still else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(picture, size, interpolation=filter_), np.uint8)
        boxes = boxes * scale
    picture = annotate(picture, list(boxes), shown.scores, shown.lost, None)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92 if shown.still else 78]
    _, data = cv2.imencode(".jpg", _bgr(picture), quality)
    return data.tobytes()


def _bgr(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), np.uint8)
