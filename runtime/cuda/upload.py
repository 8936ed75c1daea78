"""Whole host frames to the GPU, ahead of their turn."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.cuda.driver import Buffer, Device, Event, PinnedBuffer, Stream, in_context
from jntrt.runtime.cuda.frames import DeviceFrame
from jntrt.runtime.errors import TrackerError


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
