"""The crop and box kernels on a GPU against the host's arithmetic, bit by bit."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.latency.drawn_video import HEIGHT, WIDTH
from jntrt.runtime.bundle.conventions import (
    Border,
    Clip,
    Context,
    Corner,
    CropSpec,
    Edge,
    Scale,
    Side,
    StateSpec,
)
from jntrt.runtime.crop import border_colour, crop
from jntrt.runtime.cuda.driver import Buffer, Device, Stream
from jntrt.runtime.cuda.frames import DeviceFrame
from jntrt.runtime.cuda.kernels import RESULT, BoxAddresses, Kernels, aim, describe, rule_of, sizes
from jntrt.runtime.geometry import CropRectangle, box_to_frame

# What differs between the families: OSTrack's, then NanoTrack's choices.
CONVENTIONS = (
    (CropSpec(256, 4.0), StateSpec()),
    (
        CropSpec(
            255,
            context=Context.PADDED,
            border=Border.MEAN,
            side=Side.HALF_EVEN,
            corner=Corner.FLOOR,
            edge=Edge.EXACT,
            scale=Scale.EXACT,
        ),
        StateSpec(Clip.CENTRE, start_shift=-0.5),
    ),
)


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
        spec = replace(
            CONVENTIONS[case // 2 % 2][0],
            size=int(rng.choice([112, 127, 128, 144, 192, 255, 256, 384])),
            factor=float(rng.choice([2, 4, 5])),
        )
        boxes = np.stack(
            [rng.uniform(-9, width, 3), rng.uniform(-9, height, 3), *rng.uniform(2, width, (2, 3))], axis=1
        )
        lanes, swap, border = aim(boxes, spec), bool(case % 2), border_colour(frame, spec)
        pixels = on_device(device, stream, frame)
        description = describe(DeviceFrame(pixels.pointer, width, height, 3 * width), spec, border)
        buffers = [on_device(device, stream, array) for array in (description, lanes)]
        wanted = np.stack(
            [
                crop(frame, _rectangle(lane), spec.size, swap=swap, edge=spec.edge, border=border)
                for lane in lanes
            ]
        )
        out = Buffer(device, wanted.nbytes)
        addresses = (buffers[0].pointer, buffers[1].pointer)
        kernels.crop(stream, *addresses, len(lanes), out.pointer, spec.size, swap=swap)
        differing += int((from_device(stream, out, wanted) != wanted).sum())
        for buffer in (pixels, *buffers, out):
            buffer.free()
    return f"equal in {cases} frames" if not differing else f"{differing} bytes differ"


def check_box(device: Device, count: int = 4000) -> str:
    """The box kernel against geometry.py, bit by bit, with squares, spans and sizes that follow."""
    differing = sum(_box_differences(device, count, *conventions) for conventions in CONVENTIONS)
    return f"equal for {2 * count} boxes" if not differing else f"{differing} numbers differ"


def _box_differences(device: Device, count: int, spec: CropSpec, rule: StateSpec) -> int:
    rng = np.random.default_rng(2)
    stream, kernels = Stream(device), Kernels(device)
    states = np.concatenate([rng.uniform(0, 1500, (count, 2)), rng.uniform(10, 500, (count, 2))], axis=1)
    predictions = rng.uniform(0, 1, (count, 4)).astype(np.float32)
    lanes = aim(states, spec)
    wanted = np.array(
        [
            box_to_frame(prediction.tolist(), state.tolist(), float(lane["span"]), WIDTH, HEIGHT, rule)
            for prediction, state, lane in zip(predictions, states, lanes, strict=True)
        ]
    )
    arrays = {
        "frame": describe(DeviceFrame(0, WIDTH, HEIGHT, 0), spec, (0, 0, 0)),
        "rule": rule_of(spec, rule),
        "boxes": predictions,
        "scores": np.ones(count, np.float32),
        "lanes": lanes,
        "results": np.zeros(count, RESULT),
        "sizes": np.zeros((count, 2), np.float32),
    }
    buffers = {name: on_device(device, stream, array) for name, array in arrays.items()}
    kernels.box(stream, BoxAddresses(**{name: buffer.pointer for name, buffer in buffers.items()}), count)
    got = {name: from_device(stream, buffers[name], arrays[name]) for name in ("lanes", "results", "sizes")}
    for buffer in buffers.values():
        buffer.free()
    differing = int((got["results"]["box"] != wanted).sum()) + int(got["results"]["status"].sum())
    differing += int((got["sizes"] != sizes(wanted, spec)).sum())
    return differing + int(got["lanes"].tobytes() != aim(wanted, spec).tobytes())


def _rectangle(lane: Any) -> CropRectangle:
    return CropRectangle(int(lane["x"]), int(lane["y"]), int(lane["side"]))
