"""Host frames that a GPU reaches: page-locked ones read in place, whole ones copied ahead of their turn."""

import math
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.cuda.driver import Buffer, Device, Event, PinnedBuffer, Stream, in_context
from jntrt.runtime.cuda.frames import DeviceFrame
from jntrt.runtime.errors import TrackerError


class _Pinned:
    """Page-locked memory as NumPy takes it: it goes when the last array on it does."""

    def __init__(self, device: Device, shape: tuple[int, int, int]) -> None:
        self.device = device
        buffer = PinnedBuffer(device, math.prod(shape))
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": "|u1",
            "data": (buffer.pointer, False),
        }
        # Not at exit: the driver may be gone by then, and takes its memory along.
        weakref.finalize(self, _free, buffer).atexit = False


@in_context
def _free(buffer: PinnedBuffer) -> None:
    buffer.free()


def frame_buffer(device: Device, height: int, width: int) -> NDArray[np.uint8]:
    """A frame, height×width×3, for a decoder to fill, which the crop kernel reads where it lies."""
    with device.current():
        return np.asarray(_Pinned(device, (height, width, 3)))


def reached(frame: NDArray[np.uint8], device: Device) -> DeviceFrame | None:
    """A `frame_buffer` of this GPU, or a part of one with whole pixels side by side, as the GPU sees it."""
    owner: Any = frame
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, _Pinned) or owner.device is not device:
        return None
    if frame.strides[1:] != (3, 1) or frame.strides[0] < 3 * frame.shape[1]:
        return None
    return DeviceFrame(frame.ctypes.data, frame.shape[1], frame.shape[0], frame.strides[0], owner=frame)


class FrameUploader:
    """Whole frames to the GPU ahead of their turn, on a stream of its own.

    `upload` returns at once with a frame that `step` takes; of the buffers, `depth` frames may be under
    way, so a frame is overwritten once `depth` more were uploaded.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], depth: int = 2) -> None:
        """`shape`: H×W×3 of all frames."""
        self.device = device
        self.shape = shape
        nbytes = int(np.prod(shape))
        with device.current():
            self._stream = Stream(device)
            self._pinned = [PinnedBuffer(device, nbytes) for _ in range(depth)]
            self._buffers = [Buffer(device, nbytes) for _ in range(depth)]
            self._events = [Event(device) for _ in range(depth)]
        self._next = 0

    @in_context
    def staging(self) -> NDArray[np.uint8]:
        """The page-locked H×W×3 array of the next upload, for a decoder to fill; waits until it is free."""
        self._events[self._next].synchronize()
        return self._pinned[self._next].view(np.uint8, self.shape)

    @in_context
    def upload(self, frame: NDArray[np.uint8] | None = None) -> DeviceFrame:
        """Starts the copy of `frame`, or of what was written into `staging()`."""
        if frame is not None:
            if frame.shape != self.shape:
                raise TrackerError(f"the frame has the shape {frame.shape}, the first one had {self.shape}")
            self.staging()[:] = frame
        index, self._next = self._next, (self._next + 1) % len(self._buffers)
        pinned, buffer, copied = self._pinned[index], self._buffers[index], self._events[index]
        stream = self._stream.handle
        self._stream.copy(buffer.pointer, pinned.pointer, pinned.nbytes)
        copied.record(stream)
        height, width = self.shape[:2]
        return DeviceFrame(buffer.pointer, width, height, 3 * width, stream, owner=self, ready=copied)

    @in_context
    def close(self) -> None:
        """Lets the buffers go."""
        self._stream.synchronize()
        for pinned in self._pinned:
            pinned.free()
        for buffer in self._buffers:
            buffer.free()
        for event in self._events:
            event.close()
        self._stream.close()


def uploaded(device: Device, frames: Iterable[NDArray[np.uint8]]) -> Iterator[DeviceFrame]:
    """The frames on the GPU, each copy started while the one before is tracked.

    A frame is to be used up before the next one is asked for: its buffer is then the next but one's.
    """
    uploader: FrameUploader | None = None
    waiting: DeviceFrame | None = None
    try:
        for frame in frames:
            if uploader is None:
                uploader = FrameUploader(device, frame.shape)
            started = uploader.upload(frame)
            if waiting is not None:
                yield waiting
            waiting = started
        if waiting is not None:
            yield waiting
    finally:
        if uploader is not None:
            uploader.close()
