"""The pixels of annotated sequences, as they are stored: no orientation tag turns them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.images import quiet_opencv


def read_image(path: Path) -> NDArray[np.uint8]:
    """The image at `path` as H×W×3 uint8 RGB; UserError when it cannot be decoded."""
    import cv2

    quiet_opencv()
    try:
        # The annotation refers to the stored pixels: a camera's orientation tag must not turn them.
        image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:  # its header says that it is larger than OpenCV allows
        raise UserError(f"{path}: not an image that can be decoded ({error.err})") from None
    if image is None:
        raise UserError(f"{path}: not an image that can be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def video_fps(video: Path) -> float | None:
    """Frames per second as the container says; UserError where it cannot be opened."""
    import av

    try:
        with av.open(str(video)) as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{video}: cannot be opened as a video ({error.strerror})") from None
    return float(rate) if rate else None


def video_frames(video: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """The first `count` frames, H×W×3 uint8 RGB; UserError where there are fewer."""
    import av

    number = 0
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise UserError(f"{video}: no video stream")
            for frame in container.decode(container.streams.video[0]):
                yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
                number += 1
                if number == count:
                    return
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{video}: cannot be decoded after {number} frames ({error.strerror})") from None
    raise UserError(f"{video}: ends after {number} frames, its annotation has {count}")
