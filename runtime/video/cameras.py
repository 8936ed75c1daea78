"""Frames of a camera, by its number."""

import sys
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.images import quiet_opencv
from jntrt.runtime.video.stream import Numbered, Opened, StreamError, check_size, sane_rate


def camera(index: int, max_pixels: int) -> Opened:
    """Camera `index`, live; UserError where it cannot be opened."""
    import cv2

    device = Path(f"/dev/video{index}")
    if sys.platform == "linux" and not device.exists():
        raise UserError(f"camera {index}: no such camera (there is no {device})")
    quiet_opencv()
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise UserError(f"camera {index}: cannot be opened; is it connected, free and readable for you?")
    width, height = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    check_size(f"camera {index}", width, height, max_pixels)
    rate = capture.get(cv2.CAP_PROP_FPS)
    fps = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else None

    def read() -> Generator[Numbered, None, None]:
        count = 0
        try:
            while True:
                ok, image = capture.read()
                if not ok:
                    if count == 0:
                        raise UserError(f"camera {index}: not one frame came from it")
                    raise StreamError(f"camera {index}: gives no more frames after {count}; they are kept")
                yield count, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[misc]
                count += 1
        finally:
            capture.release()

    return Opened(read(), fps=sane_rate(fps), live=True)
