"""What the engines on a GPU share: tensors at fixed addresses, arrays in and out, the loop around them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jntrt.runtime.cuda.driver import Buffer, Device, Stream
from jntrt.runtime.cuda.loop import DeviceLoop, DeviceNetwork, DeviceTensor
from jntrt.runtime.errors import TrackerError, UserError
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jntrt.runtime.bundle import Bundle

_devices: dict[int, Device] = {}


def shared_device(ordinal: int = 0) -> Device:
    """The process's one `Device` of a GPU; its primary context lives as long as the process."""
    if ordinal not in _devices:
        _devices[ordinal] = Device(ordinal)
    device = _devices[ordinal]
    device.activate()
    return device


class Tensors:
    """The tensors of one graph in device memory that they own, by name."""

    def __init__(self, device: Device, shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        """`shapes`: shape and dtype of every input and output."""
        self.device = device
        self._buffers: dict[str, Buffer] = {}
        self.tensors: dict[str, DeviceTensor] = {}
        for name, (shape, dtype) in shapes.items():
            if any(length < 1 for length in shape):
                raise UserError(f"tensor {name} has the shape {shape}, which is not static: export again")
            tensor = DeviceTensor(0, shape, np.dtype(dtype))
            buffer = Buffer(device, tensor.nbytes)
            self._buffers[name] = buffer
            self.tensors[name] = DeviceTensor(buffer.pointer, shape, tensor.dtype)

    def place(self, name: str, tensor: DeviceTensor) -> None:
        """Lets `name` live elsewhere and frees its own memory. Raises UserError where it does not fit."""
        own = self.tensors[name]
        if (own.shape, own.dtype) != (tensor.shape, tensor.dtype):
            raise UserError(
                f"memory tensor {name} leaves the template graph as {own.dtype} {own.shape} and enters the"
                f" track graph as {tensor.dtype} {tensor.shape}: the bundle is broken, export it again"
            )
        self.tensors[name] = tensor
        buffer = self._buffers.pop(name, None)
        if buffer is not None:
            buffer.free()

    def upload(self, stream: Stream, feeds: Mapping[str, Any]) -> None:
        """Copies `feeds`, arrays or tensors of another graph, into their places."""
        for name, value in feeds.items():
            target = self.tensors.get(name)
            if target is None:
                raise TrackerError(f"the graph has no tensor {name}")
            if isinstance(value, DeviceTensor):
                if value.pointer != target.pointer:
                    stream.copy(target.pointer, value.pointer, target.nbytes)
                continue
            array = np.ascontiguousarray(value, target.dtype)
            if array.shape != target.shape:
                raise TrackerError(f"tensor {name} takes the shape {target.shape}, not {array.shape}")
            stream.copy(target.pointer, array.ctypes.data, array.nbytes)
            stream.synchronize()  # the array is pageable, and may be gone by the next line

    def download(self, stream: Stream, name: str) -> NDArray[Any]:
        """A tensor as an array, after all that `stream` holds."""
        tensor = self.tensors[name]
        array = np.empty(tensor.shape, tensor.dtype)
        stream.copy(array.ctypes.data, tensor.pointer, array.nbytes)
        stream.synchronize()
        return array

    def free(self) -> None:
        """Lets the memory go."""
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()


def open_loop(
    device: Device, template: DeviceNetwork, track: DeviceNetwork, bundle: "Bundle", *, swap: bool
) -> DeviceLoop:
    """The device loop of a bundle's two graphs."""
    return DeviceLoop(device, template, track, (bundle.template, bundle.search), swap=swap)
