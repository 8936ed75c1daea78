"""Frames that lie on the GPU, whoever put them there.

Two protocols name such memory: DLPack, where the producer makes our stream wait for its work, and
`__cuda_array_interface__` (PyCUDA's GPUArray has only this one), where the producer names its stream and
we wait. Nothing is copied: the crop kernel reads the frame where it is, NV12 and frames to be turned too.
"""

import ctypes
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.errors import TrackerError

if TYPE_CHECKING:
    from jntrt.runtime.cuda.driver import Device, Event

LEGACY_STREAM = 1  # the handle of CUDA's legacy default stream, for producers that do not name theirs

_DLPACK_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged
_DLPACK_UINT = 1
_CV_8UC1, _CV_8UC3 = 0, 16

MATRICES = ("bt601", "bt709")  # in the order of crop.h's Frame


@dataclass(frozen=True)
class Nv12:
    """A frame on the GPU as video decoders have it: `init`, `update` and `submit` take it as it is.

    surface: (3·H/2)×W uint8 in one piece, in any form that a frame on the GPU may have: H rows of brightness,
    under them H/2 rows of colour, U and V in turn. Limited range.
    matrix: bt601, or bt709 (most video from 720 lines on).
    turns: by how many quarters it is to be turned counterclockwise, as `np.rot90` does.
    """

    surface: Any
    matrix: str = "bt709"
    turns: int = 0


@dataclass(frozen=True)
class DeviceFrame:
    """H×W×3 uint8 on the GPU. `stream`: whose work it has to wait for, None where that is settled.

    `ready`, where there is one, marks the end of that work: the stream may hold later frames' already.
    matrix: of an NV12 surface, "" where it is RGB (or BGR). turns: as for `Nv12`; width and height are those
    in memory.
    """

    pointer: int
    width: int
    height: int
    row_bytes: int
    stream: int | None = None
    owner: Any = field(default=None, repr=False, compare=False)  # kept alive as long as the frame is used
    ready: "Event | None" = field(default=None, repr=False, compare=False)
    matrix: str = ""
    turns: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, 3, once it was turned."""
        return (self.width, self.height, 3) if self.turns % 2 else (self.height, self.width, 3)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.matrix or self.turns:
            raise AttributeError("an NV12 frame, or one that is to be turned, is no array H×W×3")
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": "|u1",
            "strides": (self.row_bytes, 3, 1),
            "data": (self.pointer, True),
            "stream": self.stream,
        }


def device_frame(frame: Any, stream: int, device: "Device") -> DeviceFrame | None:
    """The frame where it lies on the GPU, or None for one that does not.

    `stream`: ours, a handle, on `device`. Raises TrackerError for device memory that is no H×W×3
    uint8 picture with whole pixels side by side, or is another GPU's.
    """
    if isinstance(frame, DeviceFrame):
        return frame
    if isinstance(frame, Nv12):
        return _from_nv12(frame, stream, device)
    return _found(frame, stream, device, 3)


def _from_nv12(frame: Nv12, stream: int, device: "Device") -> DeviceFrame:
    if frame.matrix not in MATRICES:
        raise TrackerError(f"an NV12 frame's matrix is bt601 or bt709, not {frame.matrix!r:.20}")
    surface = _found(frame.surface, stream, device, 1)
    if surface is None:
        raise TrackerError(f"an NV12 frame's surface lies on the GPU, not a {type(frame.surface).__name__}")
    if surface.height % 3 or surface.width % 2:
        raise TrackerError(
            f"an NV12 surface has 3·H/2 rows of an even width, not {surface.height} of {surface.width}"
        )
    return replace(surface, height=surface.height // 3 * 2, matrix=frame.matrix, turns=frame.turns % 4)


def _found(frame: Any, stream: int, device: "Device", channels: int) -> DeviceFrame | None:
    """Rows of pixels of so many bytes on the GPU, or None for what does not lie there."""
    place = getattr(frame, "__dlpack_device__", None)
    kind, where = place() if place is not None else (0, 0)
    if int(kind) in _DLPACK_CUDA:
        _check_place(int(where), device)
        return _from_dlpack(frame, stream, channels)
    if hasattr(frame, "cudaPtr"):
        return _from_gpumat(frame, channels)
    interface = getattr(frame, "__cuda_array_interface__", None)
    if interface is None:
        return None
    found = _from_interface(frame, interface, channels)
    # The protocol does not say whose memory it is, and reading another GPU's ends the shared context.
    _check_place(device.ordinal_of(found.pointer), device)
    return found


def rgb_of(surface: NDArray[np.uint8], matrix: str) -> NDArray[np.uint8]:
    """An NV12 surface ((3·H/2)×W) as RGB, H×W×3, to the bit as the crop kernel reads it (crop.h)."""
    height = surface.shape[0] // 3 * 2
    luma = 76309 * (surface[:height].astype(np.int32) - 16)
    pairs = surface[height:].reshape(height // 2, -1, 2).astype(np.int32) - 128
    u, v = np.moveaxis(pairs.repeat(2, axis=0).repeat(2, axis=1), -1, 0)
    red, green, more_green, blue = (
        (117489, 13975, 34925, 138438) if matrix == "bt709" else (104597, 25675, 53279, 132201)
    )
    rgb = np.stack([luma + red * v, luma - green * u - more_green * v, luma + blue * u], axis=-1) >> 16
    picture: NDArray[np.uint8] = np.clip(rgb, 0, 255).astype(np.uint8)
    return picture


def _check_place(ordinal: int | None, device: "Device") -> None:
    ours = device.info.ordinal
    if ordinal is None:
        raise TrackerError("the frame lies in memory that CUDA does not know: hand an array on the GPU over")
    if ordinal != ours:
        raise TrackerError(f"the frame lies on GPU {ordinal}, the tracker on GPU {ours}: copy it there")


def _from_interface(frame: Any, interface: dict[str, Any], channels: int) -> DeviceFrame:
    shape = tuple(int(length) for length in interface["shape"])
    strides = interface.get("strides")
    if strides is not None:
        strides = tuple(int(step) for step in strides)
    is_uint8 = interface["typestr"] in ("|u1", "<u1", ">u1")
    _check(is_uint8, shape, strides, interface["typestr"], channels)
    return DeviceFrame(
        pointer=int(interface["data"][0]),
        width=shape[1],
        height=shape[0],
        row_bytes=strides[0] if strides else channels * shape[1],
        # Before version 3 nobody said which stream, and PyCUDA says None, "nothing to wait for", whatever its
        # arrays still wait for: the legacy default stream, where all of its work is ordered, is the safe one.
        stream=interface.get("stream") or LEGACY_STREAM,
        owner=frame,
    )


def _from_gpumat(frame: Any, channels: int) -> DeviceFrame:
    """A `cv2.cuda.GpuMat`, whose work is on the legacy default stream unless it was given another."""
    width, height = (int(length) for length in frame.size())
    shape, row_bytes = (height, width, int(frame.channels())), int(frame.step)
    wanted = _CV_8UC3 if channels == 3 else _CV_8UC1
    text = f"a GpuMat of type {frame.type()}"
    _check(frame.type() == wanted, shape, (row_bytes, channels, 1), text, channels)
    return DeviceFrame(int(frame.cudaPtr()), width, height, row_bytes, LEGACY_STREAM, owner=frame)


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_dlpack(frame: Any, stream: int | None, channels: int) -> DeviceFrame:
    # Asked for in its first form (no max_version), which every producer gives. The capsule is never
    # consumed: it owns the memory's last reference and lets go when it is collected.
    capsule = frame.__dlpack__(stream=stream)
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _DLTensor.from_address(pointer_of(capsule, b"dltensor"))
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else None
    is_uint8 = (tensor.code, tensor.bits, tensor.lanes) == (_DLPACK_UINT, 8, 1)
    _check(is_uint8, shape, strides, f"{tensor.bits} bits of kind {tensor.code}", channels)
    return DeviceFrame(
        pointer=int(tensor.data or 0) + int(tensor.byte_offset),
        width=shape[1],
        height=shape[0],
        row_bytes=strides[0] if strides else channels * shape[1],
        owner=(frame, capsule),
    )


def _check(
    is_uint8: bool, shape: tuple[int, ...], strides: tuple[int, ...] | None, kind: str, channels: int
) -> None:
    if channels == 1 and len(shape) == 2:
        shape, strides = (*shape, 1), strides and (*strides, 1)
    if not is_uint8 or len(shape) != 3 or shape[2] != channels:
        wanted = "a frame on the GPU is H×W×3" if channels == 3 else "an NV12 surface is (3·H/2)×W"
        raise TrackerError(f"{wanted} of uint8, not {kind} {shape}")
    if 0 in shape:
        raise TrackerError("the frame has no pixels")
    if strides is not None and (
        strides[1] != channels or strides[2] != 1 or strides[0] < channels * shape[1]
    ):
        raise TrackerError(
            f"a frame on the GPU needs its three channels side by side (strides {strides} are not): make it"
            " contiguous H×W×3 first"
        )
