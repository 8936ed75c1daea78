"""What the engines on a GPU share: tensors at fixed addresses, arrays in and out, the loop around them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.cuda.driver import Buffer, CudaError, Device, DeviceInfo, Stream, in_context
from jntrt.runtime.cuda.kernels import shared_kernels
from jntrt.runtime.cuda.loop import DeviceLoop, DeviceTensor
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair, open_graphs
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.loops import Loop

_devices: dict[int, Device] = {}


def shared_device(ordinal: int = 0) -> Device:
    """The process's one `Device` of a GPU; its primary context lives as long as the process."""
    if ordinal not in _devices:
        _devices[ordinal] = Device(ordinal)
    return _devices[ordinal]


def kernel_obstacle(device: Device) -> str | None:
    """Why the device loop's own kernels do not load on `device`, or None."""
    try:
        shared_kernels(device)
    except CudaError as error:
        return str(error)
    return None


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

    def relocate(self, name: str, tensor: DeviceTensor) -> None:
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
                if (value.shape, value.dtype) != (target.shape, target.dtype):
                    raise TrackerError(
                        f"tensor {name} takes {target.dtype} {target.shape}, not {value.dtype} {value.shape}"
                    )
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


class DevicePair(Pair):
    """Two graphs on a GPU, run by the device loop."""

    def __init__(self, device: Device, template: "DeviceEngine", track: "DeviceEngine") -> None:
        super().__init__(template, track)
        self._device, self._networks = device, (template, track)

    def loop(self, bundle: Bundle, *, swap: bool) -> Loop:
        """The loop around them on the GPU. `swap`: frames are BGR."""
        return DeviceLoop(self._device, *self._networks, bundle, swap=swap)

    def share(self) -> Self:
        """The same engines for another tracker: context, stream and memory are its own."""
        return type(self)(self._device, *(network.share() for network in self._networks))


class DeviceEngine(ABC):
    """One graph in an engine on the GPU; what TensorRT and ONNX Runtime have in common."""

    name: str

    def __init__(self, graph: Path, precision: Precision, options: EngineOptions) -> None:
        """Opens the graph. Raises UserError as the engine does; nothing then stays on the GPU."""
        self._graph, self.precision, self.options = graph, precision, options
        self.device = shared_device(options.device)
        self._stream: Stream | None = None
        self._tensors: Tensors | None = None
        self._inputs: list[str] = []
        try:
            with self.device.current():
                self._open(graph)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision, options: EngineOptions) -> Pair:
        """A bundle's two graphs."""
        device = shared_device(options.device)
        return DevicePair(device, *open_graphs(cls, bundle, precision, options))

    @abstractmethod
    def _open(self, graph: Path) -> None:
        """Opens the graph and ends in `_hold`."""

    def _hold(self, shapes: Mapping[str, tuple[tuple[int, ...], Any]], inputs: list[str]) -> None:
        """Makes room for all tensors (shape and dtype by name) and tells the engine where they are."""
        self._tensors, self._inputs = Tensors(self.device, shapes), inputs
        for name, tensor in self._tensors.tensors.items():
            self._bind(name, tensor)

    @abstractmethod
    def _bind(self, name: str, tensor: DeviceTensor) -> None:
        """Tells the engine where a tensor lies."""

    @property
    def tensors(self) -> Mapping[str, DeviceTensor]:
        """Inputs and outputs, on the device."""
        return self._loaded().tensors

    def relocate(self, name: str, tensor: DeviceTensor) -> None:
        """Makes `name` live in that memory from now on."""
        self._loaded().relocate(name, tensor)
        self._bind(name, tensor)

    @abstractmethod
    def enqueue(self, stream: Stream) -> None:
        """Runs the graph on what lies in its inputs."""

    @abstractmethod
    def obstacle_to_capture(self, stream: Stream) -> str | None:
        """Why its work cannot be part of a CUDA graph, or None."""

    @property
    def own_stream(self) -> Stream | None:
        """The stream that its work is bound to; None where it goes on any."""
        return None

    @in_context
    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name: a track graph's as arrays, the template graph's as they lie on the device."""
        tensors, stream = self._loaded(), self._stream
        assert stream is not None
        tensors.upload(stream, feeds)
        self.enqueue(stream)
        stream.synchronize()
        outputs = [name for name in tensors.tensors if name not in self._inputs]
        if "search" not in self._inputs:
            return {name: tensors.tensors[name] for name in outputs}
        return {name: tensors.download(stream, name) for name in outputs}

    def share(self) -> Self:
        """The same graph for another tracker; an engine that cannot be shared is opened again."""
        return type(self)(self._graph, self.precision, self.options)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a figure has to say about the engine."""

    @in_context
    def close(self) -> None:
        """Lets the memory go; a child lets its engine go first."""
        if self._tensors is not None:
            self._tensors.free()
            self._tensors = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _loaded(self) -> Tensors:
        if self._tensors is None:
            raise TrackerError(f"{self.name}: the graph is closed")
        return self._tensors


def tf32_obstacle(precision: Precision, info: DeviceInfo) -> str | None:
    """Why the GPU has no such products, or None."""
    if precision.tf32 and info.compute_capability < (8, 0):
        return f"{info.name} is {info.architecture}: tf32 is from sm_80 (Ampere) on, take fp32"
    return None


def bf16_obstacle(precision: Precision, info: DeviceInfo) -> str | None:
    """Why the GPU does not compute in bfloat16, or None."""
    if precision.bf16 and info.compute_capability < (8, 0):
        return f"{info.name} is {info.architecture}: bfloat16 is from sm_80 (Ampere) on, take fp16"
    return None


def describe_device(info: DeviceInfo) -> dict[str, Any]:
    """What an engine's description says of its GPU."""
    return {"device": f"{info.name} ({info.architecture})", "driver": info.driver}
