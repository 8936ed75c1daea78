"""Every CUDA call of jntrt: a thin layer over cuda-python's driver API, and nothing about tracking.

The device's *primary* context is used, the one that torch, PyCUDA (`pycuda.autoprimaryctx`), ONNX Runtime and
TensorRT use as well, so that pointers and streams of all of them are valid here and the other way round.
"""

import ctypes
import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

INSTALL = "pip install 'jntrt[gpu]' (gpu-cu12 for a driver before r580)"


CUDA_13 = 13000  # as cuDriverGetVersion says it; r580 is the first such driver


class CudaError(UserError):
    """A CUDA call failed, or there is no driver, no device or no cuda-python."""


@dataclass(frozen=True)
class DeviceInfo:
    """What an engine depends on: it runs on this very device under this driver."""

    ordinal: int
    name: str
    uuid: str  # 32 hexadecimal digits
    compute_capability: tuple[int, int]
    driver: int  # as cuDriverGetVersion says it: 13000 for CUDA 13.0

    @property
    def architecture(self) -> str:
        """`sm_89` and the like."""
        major, minor = self.compute_capability
        return f"sm_{major}{minor}"


def cuda_version(driver: int) -> str:
    """`13.0` for 13000."""
    return f"{driver // 1000}.{driver % 1000 // 10}"


def _bindings() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise CudaError(f"cuda-python is not installed: {INSTALL}") from error
    return driver


def checked(result: tuple[Any, ...], call: str) -> Any:
    """The values of a cuda-python result tuple: none, one, or a tuple of several."""
    status, *values = result
    if int(status) != 0:
        raise CudaError(f"{call} failed: {status.name}")
    if len(values) < 2:
        return values[0] if values else None
    return tuple(values)


def released(result: tuple[Any, ...], call: str) -> None:
    """Notes where memory or a handle could not be given back, and goes on with the next.

    After a fault on the device every later call fails, these too: an error here would hide the one that
    tells.
    """
    if int(result[0]) != 0:
        log.debug("%s failed: %s", call, result[0].name)


class Buffer:
    """Device memory: `pointer` (an address) and `nbytes`. Freed with the device, or by `free`."""

    def __init__(self, device: "Device", nbytes: int) -> None:
        self.device = device
        self.nbytes = nbytes
        self.pointer = int(checked(device.cu.cuMemAlloc(max(nbytes, 1)), f"allocating {nbytes} bytes"))

    def free(self) -> None:
        """Gives the memory back; harmless when done twice."""
        if self.pointer:
            released(self.device.cu.cuMemFree(self.pointer), "cuMemFree")
            self.pointer = 0


class PinnedBuffer:
    """Page-locked host memory, which kernels reach at the same address: `array` is its uint8 view."""

    def __init__(self, device: "Device", nbytes: int) -> None:
        self.device = device
        self.nbytes = nbytes
        flags = device.cu.CU_MEMHOSTALLOC_PORTABLE | device.cu.CU_MEMHOSTALLOC_DEVICEMAP
        self.pointer = int(
            checked(device.cu.cuMemHostAlloc(max(nbytes, 1), flags), f"page-locking {nbytes} bytes")
        )
        memory = (ctypes.c_uint8 * nbytes).from_address(self.pointer)
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array(memory)

    def view(self, dtype: Any, shape: Sequence[int]) -> NDArray[Any]:
        """The first bytes as an array of `dtype` and `shape`."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        viewed: NDArray[Any] = self.array[:nbytes].view(dtype).reshape(shape)
        return viewed

    def free(self) -> None:
        """Gives the memory back; views of it must not be used after that."""
        if self.pointer:
            self.array = np.empty(0, np.uint8)
            released(self.device.cu.cuMemFreeHost(self.pointer), "cuMemFreeHost")
            self.pointer = 0


class Event:
    """A point in a stream."""

    def __init__(self, device: "Device") -> None:
        self.device = device
        flag = device.cu.CUevent_flags.CU_EVENT_DISABLE_TIMING
        self.handle = checked(device.cu.cuEventCreate(int(flag)), "cuEventCreate")

    def record(self, stream: int) -> None:
        """Marks what `stream` (a handle) holds by now."""
        checked(self.device.cu.cuEventRecord(self.handle, stream), "cuEventRecord")

    def synchronize(self) -> None:
        """Waits on the host until the marked work is done."""
        checked(self.device.cu.cuEventSynchronize(self.handle), "cuEventSynchronize")

    def close(self) -> None:
        """Destroys the event."""
        if self.handle is not None:
            released(self.device.cu.cuEventDestroy(self.handle), "cuEventDestroy")
            self.handle = None


class Graph:
    """A captured sequence, launched as one."""

    def __init__(self, device: "Device", graph: Any) -> None:
        self.device = device
        self._graph = graph
        try:
            self._executable = checked(device.cu.cuGraphInstantiate(graph, 0), "cuGraphInstantiate")
        except CudaError:
            device.cu.cuGraphDestroy(graph)
            raise

    def launch(self, stream: "Stream") -> None:
        """Enqueues the whole sequence on `stream`."""
        checked(self.device.cu.cuGraphLaunch(self._executable, stream.handle), "cuGraphLaunch")

    def close(self) -> None:
        """Destroys graph and executable."""
        if self._executable is not None:
            released(self.device.cu.cuGraphExecDestroy(self._executable), "cuGraphExecDestroy")
            released(self.device.cu.cuGraphDestroy(self._graph), "cuGraphDestroy")
            self._executable = None


class Stream:
    """An ordered queue of device work that does not wait on the legacy default stream."""

    def __init__(self, device: "Device") -> None:
        self.device = device
        flag = device.cu.CUstream_flags.CU_STREAM_NON_BLOCKING
        self._stream = checked(device.cu.cuStreamCreate(int(flag)), "cuStreamCreate")
        self.handle = int(self._stream)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copies `nbytes` between addresses of host or device; asynchronous when host memory is pinned."""
        checked(self.device.cu.cuMemcpyAsync(target, source, nbytes, self.handle), "cuMemcpyAsync")

    def launch(
        self, function: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        """Launches a kernel; `arguments` are ctypes values (c_void_p for addresses, whose null is a None)."""
        values = tuple(0 if argument.value is None else argument.value for argument in arguments)
        types = tuple(type(argument) for argument in arguments)
        checked(
            self.device.cu.cuLaunchKernel(function, *grid, *block, 0, self.handle, (values, types), 0),
            "cuLaunchKernel",
        )

    def wait(self, event: Event) -> None:
        """Lets later work wait for what `event` marked."""
        checked(self.device.cu.cuStreamWaitEvent(self.handle, event.handle, 0), "cuStreamWaitEvent")

    def wait_for(self, other: int, event: Event) -> None:
        """Lets later work wait for what the stream with handle `other` holds by now; `event` marks it."""
        event.record(other)
        self.wait(event)

    def synchronize(self) -> None:
        """Waits on the host until the queue is empty."""
        checked(self.device.cu.cuStreamSynchronize(self.handle), "cuStreamSynchronize")

    def capture(self, work: Callable[[], None]) -> Graph:
        """The graph of what `work` enqueues here; nothing of it runs. Raises CudaError when refused.

        Thread-local mode: a decoder in another thread may allocate meanwhile.
        """
        cu = self.device.cu
        mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        checked(cu.cuStreamBeginCapture(self.handle, mode), "cuStreamBeginCapture")
        try:
            work()
        except BaseException:
            # The capture has to end whatever happened, or the stream stays unusable; its graph is of no use.
            status, graph = cu.cuStreamEndCapture(self.handle)
            if int(status) == 0:
                cu.cuGraphDestroy(graph)
            raise
        return Graph(self.device, checked(cu.cuStreamEndCapture(self.handle), "cuStreamEndCapture"))

    def close(self) -> None:
        """Destroys the stream."""
        if self.handle:
            released(self.device.cu.cuStreamDestroy(self.handle), "cuStreamDestroy")
            self.handle = 0


class Device:
    """One GPU by its primary context. Close it, or use it as a context manager."""

    def __init__(self, ordinal: int = 0) -> None:
        self.cu = _bindings()
        try:
            checked(self.cu.cuInit(0), "cuInit")
        except RuntimeError as error:  # cuda-python's own, when it finds no libcuda
            raise CudaError("no NVIDIA driver (libcuda) on this machine") from error
        count = int(checked(self.cu.cuDeviceGetCount(), "cuDeviceGetCount"))
        if not 0 <= ordinal < count:
            raise CudaError(f"no CUDA device {ordinal}: the driver shows {count}")
        self._device = checked(self.cu.cuDeviceGet(ordinal), "cuDeviceGet")
        self._choose_waiting()
        self.context = checked(self.cu.cuDevicePrimaryCtxRetain(self._device), "cuDevicePrimaryCtxRetain")
        self._modules: list[Any] = []
        self.info = self._describe(ordinal)

    def _choose_waiting(self) -> None:
        """How a thread waits on an integrated GPU (Jetson), unless somebody chose already: it yields.

        By itself CUDA may put it to sleep there, going by the power profile, and waking costs more than a
        frame; spinning would keep a core from the decoder, and a Jetson has few.
        """
        cu, integrated = self.cu, self.cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED
        if not checked(cu.cuDeviceGetAttribute(integrated, self._device), "cuDeviceGetAttribute"):
            return
        state = "cuDevicePrimaryCtxGetState"
        flags, _ = checked(cu.cuDevicePrimaryCtxGetState(self._device), state)
        if not flags & int(cu.CUctx_flags.CU_CTX_SCHED_MASK):
            wanted = flags | int(cu.CUctx_flags.CU_CTX_SCHED_YIELD)
            checked(cu.cuDevicePrimaryCtxSetFlags(self._device, wanted), "cuDevicePrimaryCtxSetFlags")

    def _describe(self, ordinal: int) -> DeviceInfo:
        cu = self.cu
        attribute = cu.CUdevice_attribute
        capability = tuple(
            int(checked(cu.cuDeviceGetAttribute(which, self._device), "cuDeviceGetAttribute"))
            for which in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        name = checked(cu.cuDeviceGetName(128, self._device), "cuDeviceGetName")
        # cuda-python 12 has both forms; the plain one is the same in 13 and wrong only for MIG slices in 12.
        get_uuid = getattr(cu, "cuDeviceGetUuid_v2", None) or cu.cuDeviceGetUuid
        uuid = checked(get_uuid(self._device), "cuDeviceGetUuid")
        return DeviceInfo(
            ordinal=ordinal,
            name=bytes(name).split(b"\0")[0].decode("utf-8", "replace"),
            uuid=bytes(uuid.bytes).hex(),
            compute_capability=(capability[0], capability[1]),
            driver=int(checked(cu.cuDriverGetVersion(), "cuDriverGetVersion")),
        )

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within, the primary context is this thread's current one; then the caller's is again."""
        checked(self.cu.cuCtxPushCurrent(self.context), "cuCtxPushCurrent")
        try:
            yield
        finally:
            released(self.cu.cuCtxPopCurrent(), "cuCtxPopCurrent")

    def activate(self) -> None:
        """Makes the primary context current in this thread for good, for a program that is all ours."""
        checked(self.cu.cuCtxSetCurrent(self.context), "cuCtxSetCurrent")

    def ordinal_of(self, pointer: int) -> int | None:
        """The number of the GPU whose memory `pointer` is; None for what CUDA does not know."""
        which = self.cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, ordinal = self.cu.cuPointerGetAttribute(which, pointer)
        return int(ordinal) if int(status) == 0 else None

    def functions(self, image: bytes, names: Sequence[str]) -> dict[str, Any]:
        """Kernels of a fatbin, cubin or PTX image by name."""
        with self.current():
            module = checked(self.cu.cuModuleLoadData(image), "loading the kernels")
            self._modules.append(module)
            return {
                name: checked(self.cu.cuModuleGetFunction(module, name.encode()), f"kernel {name}")
                for name in names
            }

    def close(self) -> None:
        """Unloads the kernels and releases the primary context; others may go on using it."""
        if self.context is not None:
            with self.current():
                for module in self._modules:
                    released(self.cu.cuModuleUnload(module), "cuModuleUnload")
            self._modules.clear()
            released(self.cu.cuDevicePrimaryCtxRelease(self._device), "cuDevicePrimaryCtxRelease")
            self.context = None

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class HasDevice(Protocol):
    """What holds things on a GPU."""

    device: Device


P = ParamSpec("P")
R = TypeVar("R")
Holder = TypeVar("Holder", bound=HasDevice)


def in_context(
    method: Callable[Concatenate[Holder, P], R],
) -> Callable[Concatenate[Holder, P], R]:
    """The method runs with its GPU's context current, and leaves the caller's as it was."""

    @functools.wraps(method)
    def within(holder: Holder, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with holder.device.current():
            return method(holder, *args, **kwargs)

    return within
