"""Frames by protocol: what DLPack and __cuda_array_interface__ say is read right. No GPU needed."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jntrt.runtime.cuda.frames import DeviceFrame, device_frame
from jntrt.runtime.errors import TrackerError


def gpu(ordinal: int) -> Any:
    """A stand-in for a device: all memory is the first one's."""
    return SimpleNamespace(info=SimpleNamespace(ordinal=ordinal), ordinal_of=lambda pointer: 0)


GPU, SECOND = gpu(0), gpu(1)


class Packed:
    """A NumPy array that claims to lie on a GPU: its capsule is a real one."""

    def __init__(self, array: np.ndarray, device: int = 2) -> None:
        self.array, self.device = array, device
        self.streams: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.device, 0)

    def __dlpack__(self, *, stream: Any = None) -> Any:
        self.streams.append(stream)
        return self.array.__dlpack__()


def test_dlpack() -> None:
    array = np.zeros((7, 9, 3), np.uint8)
    for view in (array, array[1:5], array[:, 2:6]):
        packed = Packed(view)
        frame = device_frame(packed, 1234, GPU)
        assert frame is not None
        assert packed.streams == [1234]  # the producer makes this stream wait
        assert frame.stream is None
        assert (frame.pointer, frame.shape) == (view.ctypes.data, view.shape)
        assert frame.row_bytes == view.strides[0]


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.int8)],
    ids=["grey", "float", "signed"],
)
def test_dlpack_of_something_else(array: np.ndarray) -> None:
    with pytest.raises(TrackerError, match="H×W×3 of uint8"):
        device_frame(Packed(array), 1, GPU)


def test_another_gpus_memory_is_refused() -> None:
    packed = Packed(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(TrackerError, match="lies on GPU 0, the tracker on GPU 1"):
        device_frame(packed, 5, SECOND)
    assert packed.streams == []


def test_what_is_not_on_a_gpu() -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    assert device_frame(array, 1, GPU) is None
    assert device_frame(Packed(array, device=1), 1, GPU) is None
    assert device_frame("frame", 1, GPU) is None


class Interface:
    def __init__(self, **changes: Any) -> None:
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": (4, 5, 3),
            "typestr": "|u1",
            "data": (4096, True),
            **changes,
        }


@pytest.mark.parametrize(
    ("changes", "stream"),
    [({"stream": 77}, 77), ({"stream": None}, 1), ({}, 1), ({"version": 2}, 1)],
    ids=["named", "PyCUDA's", "unnamed", "older"],
)
def test_array_interface_streams(changes: dict[str, Any], stream: int | None) -> None:
    frame = device_frame(Interface(**changes), 5, GPU)
    assert frame == DeviceFrame(4096, 5, 4, 15, stream)


def test_a_device_frame_shows_itself_to_others() -> None:
    frame = DeviceFrame(4096, 5, 4, 20, 9)
    assert device_frame(frame, 5, GPU) is frame

    class Other:
        __cuda_array_interface__ = frame.__cuda_array_interface__

    assert device_frame(Other(), 5, GPU) == frame
