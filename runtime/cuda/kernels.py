"""The two kernels around the network, and the memory layouts that they and the host share.

The image is the fatbin that CMake made with nvcc where the package was built. Without one (a wheel built
where there was no nvcc, or a device that it does not know) NVRTC compiles the same sources, which lie in the
package.
"""

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import jntrt.runtime
from jntrt.runtime.bundle.conventions import CropSpec, StateInput, StateSpec
from jntrt.runtime.crop import Colour
from jntrt.runtime.cuda.compiler import compile_kernels
from jntrt.runtime.cuda.driver import CUDA_13, CudaError, Device, Stream, cuda_version
from jntrt.runtime.cuda.frames import MATRICES, DeviceFrame
from jntrt.runtime.geometry import crop_rectangle, crop_span, hidden_lines, state_input
from jntrt.runtime.inputs import IDLE, is_idle

log = logging.getLogger(__name__)

NAMES = ("jntrt_crop", "jntrt_box")
HEADERS = ("crop.h", "box.h")
BLOCK = (32, 8, 1)  # threads of a crop's block: a warp per row, so that neighbours read neighbouring pixels

# The structs of crop.h, box.h and kernels.cu; sizes are asserted there.
FRAME = np.dtype(
    [
        ("pixels", "<u8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("row_bytes", "<i8"),
        ("hidden", "<i4"),
        ("border", "u1", 3),
        ("matrix", "u1"),
        ("chroma", "<u8"),
        ("column_bytes", "<i4"),
        ("chroma_row_bytes", "<i4"),
        ("chroma_column_bytes", "<i4"),
        ("reserved", "<i4"),
    ]
)
RULE = np.dtype(
    [
        ("factor", "<f8"),
        ("least_size", "<f8"),
        ("size", "<i4"),
        ("context", "<i4"),
        ("side", "<i4"),
        ("corner", "<i4"),
        ("scale", "<i4"),
        ("clip", "<i4"),
    ]
)
LANE = np.dtype(
    [
        ("box", "<f8", 4),
        ("scale", "<f8"),
        ("span", "<f8"),
        ("x", "<i4"),
        ("y", "<i4"),
        ("side", "<i4"),
        ("reserved", "<i4"),
    ]
)
RESULT = np.dtype([("box", "<f8", 4), ("score", "<f4"), ("status", "<i4")])

# What crop.h takes from C's headers, for NVRTC, which has the functions, size_t and ptrdiff_t built in.
STAND_INS = {
    "math.h": "#pragma once\n",
    "stddef.h": "#pragma once\n",
    "stdint.h": "#pragma once\ntypedef unsigned char uint8_t;\ntypedef short int16_t;\n",
}


def describe(frame: DeviceFrame, spec: CropSpec, border: Colour) -> NDArray[Any]:
    """What the kernels are told of a frame (FRAME, one of them); one that is to be turned is read so.

    border: the colour outside it, in its order of channels (NV12: RGB).
    """
    told = np.zeros(1, FRAME)
    told["height"], told["width"], _ = frame.shape
    told["hidden"], told["border"] = hidden_lines(spec.edge), border
    steps = (frame.row_bytes, 1 if frame.matrix else 3)
    told["pixels"], told["row_bytes"], told["column_bytes"] = _turned(
        frame.pointer, frame.height, frame.width, steps, frame.turns
    )
    if frame.matrix:
        told["matrix"] = MATRICES.index(frame.matrix)
        chroma = frame.pointer + frame.height * frame.row_bytes
        told["chroma"], told["chroma_row_bytes"], told["chroma_column_bytes"] = _turned(
            chroma, frame.height // 2, frame.width // 2, (frame.row_bytes, 2), frame.turns
        )
    return told


def _turned(
    address: int, height: int, width: int, steps: tuple[int, int], turns: int
) -> tuple[int, int, int]:
    """Where the first pixel of a picture lies once it was turned, and its steps of row and column."""
    row, column = steps
    for _ in range(turns % 4):  # counterclockwise: the last column becomes the first row
        address += (width - 1) * column
        row, column = -column, row
        height, width = width, height
    return address, row, column


def rule_of(spec: CropSpec, state: StateSpec) -> NDArray[Any]:
    """The rule (RULE, one of them) of a search crop and a state; a choice is its place in its enum."""
    choices = {"context": spec.context, "side": spec.side, "corner": spec.corner, "scale": spec.scale}
    rule = np.zeros(1, RULE)
    rule["factor"], rule["size"], rule["least_size"] = spec.factor, spec.size, state.least_size
    for name, choice in {**choices, "clip": state.clip}.items():
        rule[name] = list(type(choice)).index(choice)
    return rule


def aim(boxes: NDArray[np.float64], spec: CropSpec) -> NDArray[Any]:
    """The lanes (LANE) of `boxes` (B×4: x, y, w, h): each box with the square that its crop is cut from.

    A box of NaN is idle: its square has no side, so that its crop is black and its state stays.
    Raises UserError for a box that cannot be cropped.
    """
    lanes = np.zeros(len(boxes), LANE)
    for lane, box in zip(lanes, boxes.tolist(), strict=True):
        if is_idle(box):
            lane["box"] = box
            continue
        square = crop_rectangle(box, spec)
        lane["box"] = box
        lane["x"], lane["y"], lane["side"] = square.x, square.y, square.side
        lane["scale"] = 1.0 / (spec.size / square.side)  # crop.h's crop_scale, in its order of operations
        lane["span"] = crop_span(box, spec)
    return lanes


def sizes(boxes: NDArray[np.float64], spec: CropSpec) -> NDArray[np.float32]:
    """The state input `size` of `boxes` (B×4): B×2, as the box kernel writes it."""
    known = np.where(np.isnan(boxes), IDLE, boxes)
    return np.stack([state_input(StateInput.SIZE, box, spec) for box in known.tolist()])


def native_file(name: str) -> Path | None:
    """A file of `runtime/native`: sources and built files may lie in different folders of an installation."""
    for root in jntrt.runtime.__path__:
        path = Path(root) / "native" / name
        if path.is_file():
            return path
    return None


def compile_sources(capability: tuple[int, int]) -> bytes:
    """An image of the packaged sources, by NVRTC. Raises CudaError where that cannot be."""
    paths = {name: native_file(name) for name in ("kernels.cu", *HEADERS)}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise CudaError(f"the installed package lacks {', '.join(missing)}: install jntrt again")
    texts = {name: path.read_text() for name, path in paths.items() if path is not None}
    source = texts.pop("kernels.cu")
    return compile_kernels(source, {**texts, **STAND_INS}, capability)


class BoxAddresses(NamedTuple):
    """What the box kernel reads and writes, as addresses, in the order of its parameters."""

    frame: int
    rule: int
    boxes: int
    scores: int
    lanes: int
    results: int
    sizes: int  # 0: no network's input


@cache
def shared_kernels(device: Device) -> "Kernels":
    """A device's kernels, compiled and loaded once: what is loaded stays as long as the device."""
    return Kernels(device)


class Kernels:
    """`jntrt_crop` and `jntrt_box` on one device."""

    def __init__(self, device: Device) -> None:
        self.origin, self._functions = self._load(device)

    @staticmethod
    def _load(device: Device) -> tuple[str, dict[str, Any]]:
        fatbin = native_file("kernels.fatbin")
        if fatbin is not None:
            try:
                return "fatbin", device.functions(fatbin.read_bytes(), NAMES)
            except CudaError as error:
                # A driver older than the nvcc, say, which NVRTC need not be: it comes with the extra.
                log.info("the packaged kernels do not load (%s); compiling them", error)
        image = compile_sources(device.info.compute_capability)
        try:
            return "nvrtc", device.functions(image, NAMES)
        except CudaError as error:
            if device.info.driver >= CUDA_13:
                raise
            raise CudaError(
                f"this driver (CUDA {cuda_version(device.info.driver)}) does not load what its NVRTC"
                " compiles: pip install 'jntrt[gpu-cu12]', or a driver from r580 on"
            ) from error

    def crop(
        self, stream: Stream, frame: int, lanes: int, count: int, out: int, size: int, *, swap: bool
    ) -> None:
        """Cuts `count` squares out of the frame at `frame` (FRAME) into `out`, count×size×size×3 uint8."""
        grid = (-(-size // BLOCK[0]), -(-size // BLOCK[1]), count)
        pointers = [ctypes.c_void_p(address) for address in (frame, lanes, out)]
        stream.launch(
            self._functions["jntrt_crop"],
            grid,
            BLOCK,
            [*pointers, ctypes.c_int(size), ctypes.c_int(int(swap))],
        )

    def box(self, stream: Stream, addresses: BoxAddresses, count: int) -> None:
        """The network's boxes and scores to states, next squares, results and sizes (see kernels.cu)."""
        pointers = [ctypes.c_void_p(address) for address in addresses]
        stream.launch(
            self._functions["jntrt_box"],
            (-(-count // 32), 1, 1),
            (32, 1, 1),
            [*pointers, ctypes.c_int(count)],
        )
