"""The streams of a server: who is followed, in which frame size, until when. Knows nothing of Triton.

| what happens | what the server does |
|---|---|
| START of a stream that runs | it starts anew, with the new targets |
| a frame without START | an error: the server does not know the stream (it restarted, or the stream was idle too long) |
| a frame of another size, a damaged image | an error; the stream stays where it was |
| more streams or targets than allowed | an error at START; the others go on |
| END | the stream is forgotten |
| nothing for `idle` seconds (a dead client) | the stream is forgotten |
"""  # noqa: E501

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.errors import UserError
from jntrt.runtime.result import TrackResult
from jntrt.runtime.tracker import Tracker
from jntrt.runtime.video.images import decode_image
from jntrt.runtime.video.stream import Frame, check_size

IMAGE_BYTES = 64 << 20  # of a compressed frame


@dataclass(frozen=True)
class Limits:
    """What a server takes. pixels: of a frame; streams: at once; targets: of a stream; idle: seconds."""

    pixels: int
    streams: int
    targets: int
    idle: float


@dataclass(frozen=True, eq=False)
class Request:
    """One request: a frame (raw, or an image file's bytes), and the boxes N×4 where the stream starts."""

    stream: int
    start: bool = False
    end: bool = False
    frame: Frame | None = None
    image: NDArray[np.uint8] | None = None
    bgr: bool = False
    boxes: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """Boxes N×4, scores N and lost N in the request's frame; no rows where it had none."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    lost: NDArray[np.bool_]


@dataclass(eq=False)
class _Stream:
    trackers: list[Tracker]
    targets: int
    bgr: bool
    used: float


NOTHING = Answer(np.empty((0, 4)), np.empty(0), np.empty(0, np.bool_))


class Streams:
    """All streams of one engine. `new_tracker` gives another tracker of it."""

    def __init__(
        self,
        new_tracker: Callable[[], Tracker],
        batch: int,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """batch: targets of one tracker, the bundle's."""
        self._new_tracker, self._batch, self._limits, self._clock = new_tracker, batch, limits, clock
        self._streams: dict[int, _Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def answer(self, request: Request) -> Answer:
        """Follow the stream into the request's frame. Raises UserError: what is wrong and what to do."""
        self._forget_idle()
        try:
            return self._answer(request)
        finally:
            if request.end:
                self._forget(request.stream)

    def close(self) -> None:
        """Forget all streams."""
        for number in list(self._streams):
            self._forget(number)

    def _answer(self, request: Request) -> Answer:
        if request.start:
            self._forget(request.stream)
            return self._start(request)
        stream = self._streams.get(request.stream)
        if stream is None:
            if request.end:
                return NOTHING
            raise UserError(
                "the server does not know this stream: it was started anew, or nothing came for "
                f"{self._limits.idle:g} s; show the target again"
            )
        stream.used = self._clock()
        if request.end and request.frame is None and request.image is None:
            return NOTHING
        frame = self._frame(request, stream.bgr)
        return _answer([tracker.update(frame) for tracker in stream.trackers], stream.targets)

    def _start(self, request: Request) -> Answer:
        boxes = request.boxes
        if boxes is None or boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise UserError("a stream starts with its targets: give boxes, N rows of x,y,w,h in pixels")
        if len(boxes) > self._limits.targets:
            raise UserError(f"{len(boxes)} targets: this server follows {self._limits.targets} of a stream")
        if len(self._streams) >= self._limits.streams:
            raise UserError(f"the server follows {self._limits.streams} streams already: try again later")
        frame = self._frame(request, request.bgr)
        trackers: list[Tracker] = []
        try:
            for rows in np.split(boxes, range(self._batch, len(boxes), self._batch)):
                trackers.append(self._new_tracker())
                trackers[-1].init(frame, rows)
        except BaseException:
            _close(trackers)
            raise
        self._streams[request.stream] = _Stream(trackers, len(boxes), request.bgr, self._clock())
        return Answer(boxes, np.full(len(boxes), np.nan), np.zeros(len(boxes), np.bool_))

    def _frame(self, request: Request, bgr: bool) -> Frame:
        if (request.frame is None) == (request.image is None):
            raise UserError("a request has one frame: raw, or the bytes of an image")
        if request.frame is not None:
            if request.frame.ndim == 3:
                check_size("the frame", request.frame.shape[1], request.frame.shape[0], self._limits.pixels)
            if not bgr or request.frame.ndim != 3 or not request.frame.size:
                return request.frame
            return np.asarray(cv2.cvtColor(request.frame, cv2.COLOR_BGR2RGB), np.uint8)
        assert request.image is not None
        if request.image.nbytes > IMAGE_BYTES:
            raise UserError(f"the image has {request.image.nbytes} bytes, the most are {IMAGE_BYTES}")
        return decode_image(request.image, "the image", self._limits.pixels)

    def _forget_idle(self) -> None:
        before = self._clock() - self._limits.idle
        for number in [number for number, stream in self._streams.items() if stream.used < before]:
            self._forget(number)

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            _close(stream.trackers)


def _close(trackers: list[Tracker]) -> None:
    for tracker in trackers:
        tracker.close()


def _answer(results: list[TrackResult], targets: int) -> Answer:
    """Of the targets; a batch may have idle rows after them."""
    return Answer(
        np.concatenate([np.atleast_2d(result.box) for result in results])[:targets],
        np.concatenate([np.atleast_1d(np.asarray(result.score, np.float64)) for result in results])[:targets],
        np.concatenate([np.atleast_1d(np.asarray(result.lost, np.bool_)) for result in results])[:targets],
    )
