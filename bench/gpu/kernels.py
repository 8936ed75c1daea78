"""The crop and box kernels on a GPU against the host's arithmetic, bit by bit."""

from typing import Any

import numpy as np
from jntrt.bench.latency.drawn_video import HEIGHT, WIDTH
from jntrt.runtime.crop import crop
from jntrt.runtime.cuda.driver import Buffer, Device, Stream
from jntrt.runtime.cuda.kernels import FRAME, LANE, RESULT, BoxAddresses, Kernels, aim
from jntrt.runtime.geometry import CropRectangle, box_to_frame
from numpy.typing import NDArray


def on_device(device: Device, stream: Stream, array: NDArray[Any]) -> Buffer:
    """A copy of `array` on the GPU."""
    array = np.ascontiguousarray(array)
    buffer = Buffer(device, array.nbytes)
    stream.copy(buffer.pointer, array.ctypes.data, array.nbytes)
    stream.synchronize()
    return buffer


def from_device(stream: Stream, buffer: Buffer, like: NDArray[Any]) -> NDArray[Any]:
    """What lies in `buffer`, in the shape and type of `like`."""
    out = np.empty_like(like)
    stream.copy(out.ctypes.data, buffer.pointer, out.nbytes)
    stream.synchronize()
    return out


def check_crop(device: Device, cases: int = 200) -> str:
    """The crop kernel on noise against the host's crop, byte by byte."""
    rng = np.random.default_rng(1)
    stream, kernels = Stream(device), Kernels(device)
    differing = 0
    for case in range(cases):
        height, width = (int(n) for n in rng.integers(11, 400, 2))
        frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        size = int(rng.choice([112, 128, 144, 192, 256, 384]))
        boxes = np.stack(
            [rng.uniform(-9, width, 3), rng.uniform(-9, height, 3), *rng.uniform(2, width, (2, 3))], axis=1
        )
        lanes, swap = aim(boxes, float(rng.choice([2, 4, 5])), size), bool(case % 2)
        pixels = on_device(device, stream, frame)
        description = np.array([(pixels.pointer, width, height, 3 * width)], FRAME)
        buffers = [on_device(device, stream, array) for array in (description, lanes)]
        wanted = np.stack([crop(frame, _rectangle(lane), size, swap=swap) for lane in lanes])
        out = Buffer(device, wanted.nbytes)
        kernels.crop(stream, buffers[0].pointer, buffers[1].pointer, len(lanes), out.pointer, size, swap=swap)
        differing += int((from_device(stream, out, wanted) != wanted).sum())
        for buffer in (pixels, *buffers, out):
            buffer.free()
    return f"equal in {cases} frames" if not differing else f"{differing} bytes differ"


def check_box(device: Device, count: int = 4000) -> str:
    """The box kernel against geometry.py, bit by bit, with the squares that follow."""
    rng = np.random.default_rng(2)
    stream, kernels = Stream(device), Kernels(device)
    states = np.concatenate([rng.uniform(0, 1500, (count, 2)), rng.uniform(10, 500, (count, 2))], axis=1)
    predictions = rng.uniform(0, 1, (count, 4)).astype(np.float32)
    lanes = aim(states, 4.0, 256)
    wanted = np.array(
        [
            box_to_frame(prediction.tolist(), state.tolist(), int(lane["side"]), WIDTH, HEIGHT)
            for prediction, state, lane in zip(predictions, states, lanes, strict=True)
        ]
    )
    inputs = (np.array([(0, WIDTH, HEIGHT, 0)], FRAME), predictions, np.ones(count, np.float32), lanes)
    buffers = [on_device(device, stream, array) for array in (*inputs, np.zeros(count, RESULT))]
    kernels.box(stream, BoxAddresses(*(buffer.pointer for buffer in buffers)), count, 4.0, 256)
    results = from_device(stream, buffers[4], np.zeros(count, RESULT))
    followers = from_device(stream, buffers[3], np.zeros(count, LANE))
    for buffer in buffers:
        buffer.free()
    differing = int((results["box"] != wanted).sum()) + int(results["status"].sum())
    differing += followers.tobytes() != aim(wanted, 4.0, 256).tobytes()
    return f"equal for {count} boxes" if not differing else f"{differing} numbers differ"


def _rectangle(lane: Any) -> CropRectangle:
    return CropRectangle(int(lane["x"]), int(lane["y"]), int(lane["side"]))
