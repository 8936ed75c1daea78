"""The device loop timed: frames on the GPU, on the host, read in place, uploaded whole; the network alone."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.gpu.kernels import on_device
from jntrt.bench.latency.drawn_video import BOX, HEIGHT, WIDTH
from jntrt.runtime.cuda.driver import Device
from jntrt.runtime.cuda.frames import DeviceFrame
from jntrt.runtime.cuda.loop import DeviceLoop
from jntrt.runtime.cuda.upload import FrameUploader

Image = NDArray[np.uint8]
Times = tuple[float, float]  # p50 and p99 in milliseconds
# Of device frame, host frame, frame buffer, whole upload, network; None where there is none.
Figures = tuple[Times | None, Times | None, Times | None, Times | None, Times | None]
WAYS = ("device frame", "host frame", "frame buffer", "whole upload", "network")


def measure_loop(device: Device, loop: DeviceLoop, frames: list[Image], calls: int) -> Figures:
    """Milliseconds (p50, p99) of `WAYS`."""
    pixels = [on_device(device, loop.stream, frame) for frame in frames]
    lying = [DeviceFrame(buffer.pointer, WIDTH, HEIGHT, 3 * WIDTH) for buffer in pixels]
    uploader = FrameUploader(device, frames[0].shape)
    reached = [loop.frame_buffer(HEIGHT, WIDTH) for _ in frames]
    for buffer, frame in zip(reached, frames, strict=True):
        buffer[:] = frame
    state = [BOX] * loop.batch

    def with_state(work: Callable[[int], Any]) -> Callable[[int], float]:
        def timed(index: int) -> float:
            loop.move(state)  # untrained networks wander; not part of the time
            begin = perf_counter()
            work(index)
            return (perf_counter() - begin) * 1e3

        return timed

    def network(_: int) -> None:
        graph.launch(loop.stream) if graph is not None else loop.track.enqueue(loop.stream)
        loop.stream.synchronize()

    ways: tuple[Callable[[int], Any], ...] = (
        lambda index: loop.step(lying[index % len(lying)]),
        lambda index: loop.step(frames[index % len(frames)]),
        lambda index: loop.step(reached[index % len(reached)]),
        lambda index: loop.step(uploader.upload(frames[index % len(frames)])),
    )
    device_frame, host_frame, frame_buffer, upload = (percentiles(with_state(way), calls) for way in ways)
    graph = None
    if loop.track.obstacle_to_capture(loop.stream) is None:
        graph = loop.stream.capture(lambda: loop.track.enqueue(loop.stream))
    alone = percentiles(with_state(network), calls)
    if graph is not None:
        graph.close()
    uploader.close()
    for memory in pixels:
        memory.free()
    return (device_frame, host_frame, frame_buffer, upload, alone)


def percentiles(call: Callable[[int], float], calls: int, warmup: int = 30) -> Times:
    """p50 and p99 of `calls` calls, after `warmup` untimed ones."""
    for index in range(warmup):
        call(index)
    times = [call(index) for index in range(calls)]
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))
