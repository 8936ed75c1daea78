"""Which frames of a source are tracked, and at what size."""

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from typing_extensions import Self

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.stream import MAX_SIDE, Frame, Numbered, Opened


@dataclass(frozen=True)
class Moment:
    """A frame's number, or seconds from the source's first frame."""

    text: str
    value: Fraction
    seconds: bool

    @classmethod
    def parsed(cls, text: str, flag: str) -> Self:
        """`120` is a frame, `2.5s` and `1:02.5` are times; UserError names `flag`."""
        match = re.fullmatch(r"(?:(\d+):)?(\d+(?:\.\d+)?)(s?)", text, re.ASCII)
        if match is None or (not (match[1] or match[3]) and "." in match[2]):
            raise UserError(f"{flag} {text}: give a frame's number, seconds such as 2.5s, or 1:02.5")
        value = Fraction(match[2]) + 60 * int(match[1] or 0)
        return cls(f"{flag} {text}", value, bool(match[1] or match[3]))

    def frame(self, fps: Fraction | None) -> int:
        """The number of the first frame at or after this moment."""
        if not self.seconds:
            return int(self.value)
        if fps is None:
            raise UserError(f"{self.text}: the source has no frame rate; give a frame's number")
        return -int(-self.value * fps // 1)


@dataclass(frozen=True)
class Selection:
    """Frames from `start` to before `end`, each `every`-th, scaled to `size` (width, height) or by `scale`.

    Boxes and pictures are then those of the scaled frames.
    """

    start: Moment | None = None
    end: Moment | None = None
    every: int = 1
    size: tuple[int, int] | None = None
    scale: float = 1.0

    @classmethod
    def parsed(
        cls, start: str | None = None, end: str | None = None, every: int = 1, resize: str | None = None
    ) -> Self:
        """From a command's options; UserError where one is wrong."""
        if every < 1:
            raise UserError(f"--every {every}: give a number above zero")
        size, scale = _parsed_size(resize) if resize is not None else (None, 1.0)
        return cls(
            Moment.parsed(start, "--start") if start else None,
            Moment.parsed(end, "--end") if end else None,
            every,
            size,
            scale,
        )

    def of(self, opened: Opened) -> Opened:
        """The source with only those frames; they keep their numbers in it.

        Frames before `start` are decoded and dropped: a jump could not tell which frame it reached.
        """
        if self == Selection():
            return opened
        first = self.start.frame(opened.fps) if self.start else 0
        last = self.end.frame(opened.fps) if self.end else None
        if last is not None and last <= first:
            raise UserError(f"{self.end.text if self.end else ''}: nothing is left before it")
        length = opened.length if last is None else min(last, opened.length or last)
        return replace(
            opened,
            frames=self._chosen(opened.frames, first, last),
            fps=opened.fps / self.every if opened.fps else None,
            length=None if length is None else max(0, -(-(length - first) // self.every)),
        )

    def _chosen(
        self, frames: Generator[Numbered, None, None], first: int, last: int | None
    ) -> Generator[Numbered, None, None]:
        due = first
        with closing(frames):
            for number, frame in frames:
                if last is not None and number >= last:
                    break
                if number >= due:
                    due = first + ((number - first) // self.every + 1) * self.every
                    yield number, self._resized(frame)
        if due == first:
            raise UserError(f"{self.start.text if self.start else ''}: the source ends before it")

    def _resized(self, frame: Frame) -> Frame:
        import cv2

        height, width = frame.shape[:2]
        size = self.size or (max(1, round(width * self.scale)), max(1, round(height * self.scale)))
        if size == (width, height):
            return frame
        shrinks = size[0] * size[1] < width * height
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(frame, size, interpolation=how), np.uint8)


def _parsed_size(text: str) -> tuple[tuple[int, int] | None, float]:
    """`640x360` or a factor such as `0.5`."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})|(\d*\.?\d+)", text, re.ASCII)
    if match and match[3] and 0 < float(match[3]) <= 16:
        return None, float(match[3])
    if match and match[1] and 0 < int(match[1]) <= MAX_SIDE and 0 < int(match[2]) <= MAX_SIDE:
        return (int(match[1]), int(match[2])), 1.0
    raise UserError(f"--resize {text}: give a size such as 640x360, or a factor such as 0.5")
