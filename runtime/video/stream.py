"""What every source of frames is: numbered RGB frames, one after the other."""

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.damage import Damage
from jntrt.runtime.video.decode_ahead import Ahead

log = logging.getLogger(__name__)

Frame = npt.NDArray[np.uint8]
Numbered = tuple[int, Frame]  # a frame and its number in the source, which skips what is missing

MAX_SIDE = 65535  # pixels: what image formats and encoders hold
MAX_PIXELS = 1 << 26  # of one frame, unless told: 8192×8192, 200 MB as RGB
FPS_RANGE = (Fraction(1), Fraction(1000))  # other rates are a container's filler, such as 15360


class StreamError(UserError):
    """A source that gave frames and then broke: what came before it is sound."""


@dataclass(frozen=True)
class Opened:
    """A source as its opener returns it. `length` is what the header promises and may be wrong."""

    frames: Generator[Numbered, None, None]
    fps: Fraction | None = None
    length: int | None = None
    live: bool = False
    damage: Damage = field(default_factory=Damage)


class Frames:
    """Iterator of RGB frames (H×W×3 uint8) of one source; a context manager.

    `name` is the source in words, `fps` its frame rate (None where it has none, or one outside 1 … 1000),
    `length` the number of frames that its header promises (None where unknown), `live` whether frames come at
    their own pace. `number` is that of the frame last given: it counts the source's frames from 0, so that it
    skips those that are missing. `damage` tells, after the last frame, which ones, and is logged.
    Iterating raises `StreamError` where the source breaks midway.
    """

    def __init__(self, name: str, opened: Opened, ahead: int) -> None:
        self.name, self.fps, self.length, self.live = name, opened.fps, opened.length, opened.live
        self.damage, self.number = opened.damage, -1
        self._stopped = self._told = False
        self._source = opened.frames
        self._reader = Ahead(opened.frames, ahead, newest=opened.live) if ahead > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._stopped:
            raise StopIteration
        try:
            number, frame = next(self._source) if self._reader is None else self._reader.next()
        except StopIteration:
            self._tell()
            raise
        self.number = self.number + 1 if self.live else number  # what a slow run skips of a camera counts not
        return frame

    def numbered(self) -> Iterator[Numbered]:
        """The frames that are left, with their numbers."""
        for frame in self:
            yield self.number, frame

    def stop(self) -> None:
        """Let the iteration end before its next frame; made for signal handlers."""
        self._stopped = True
        if self._reader is not None:
            self._reader.stop()

    def close(self) -> None:
        if self._reader is None:
            self._source.close()
        else:
            self._reader.close()
        self._tell()

    def _tell(self) -> None:
        if not self._told:
            for line in self.damage.lines():
                log.warning("%s: %s", self.name, line)
        self._told = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """UserError where a frame of that size is not to be decoded: a small file may claim any size."""
    if max(width, height) > MAX_SIDE:
        raise UserError(
            f"{name}: a frame of {width}×{height}; sides above {MAX_SIDE} pixels cannot be tracked"
        )
    if width * height > max_pixels:
        raise UserError(
            f"{name}: a frame of {width}×{height} is above {max_pixels} pixels; "
            f"say --max-pixels {width * height} if that is meant"
        )


def sane_rate(rate: Fraction | None) -> Fraction | None:
    """A rate that frames can be shown at, else None."""
    return rate if rate is not None and FPS_RANGE[0] <= rate <= FPS_RANGE[1] else None
