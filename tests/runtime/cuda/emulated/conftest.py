"""Only collected by test_cuda_emulated.py, in a process whose libcuda is the emulated one."""

import copy
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.cuda.driver import Device, Stream
from jntrt.runtime.engines.device import DevicePair, Tensors, shared_device
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import open_graphs
from jntrt.runtime.engines.precision import Precision

sys.path.insert(0, str(Path(__file__).parents[2]))

LIBRARY = os.environ.get("JNTRT_EMULATED_DRIVER")
if LIBRARY is None:
    collect_ignore_glob = ["test_*.py"]

HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class Emulated:
    """What the emulated driver counted."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        self._library.emulated_bytes.restype = ctypes.c_size_t
        self._library.emulated_calls.restype = ctypes.c_long

    def bytes(self) -> int:
        return int(self._library.emulated_bytes())

    def breaks(self, broken: bool) -> None:
        """A fault on the device, after which every call fails; or none any more."""
        self._library.emulated_break(int(broken))

    def calls(self, name: str) -> int:
        return int(self._library.emulated_calls(name.encode()))


@pytest.fixture(scope="session")
def emulated() -> Emulated:
    assert LIBRARY is not None
    return Emulated(LIBRARY)


@pytest.fixture
def device() -> Device:
    """The first GPU, current in the tests' thread: they allocate on it themselves."""
    device = shared_device()
    device.activate()
    return device


class HostNetwork:
    """A graph that ONNX Runtime runs on the CPU, as a function call in the stream: it can be captured.

    Emulated device memory is host memory, so the session reads and writes it in place.
    """

    name = "host"
    own_stream: Stream | None = None

    def __init__(self, graph: Path, precision: Precision, options: EngineOptions) -> None:
        self.poisoned: Any = None  # an index of targets whose numbers are not finite
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(graph), session_options, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        self.device = shared_device(options.device)
        with self.device.current():
            self._tensors = Tensors(self.device, {v.name: (tuple(v.shape), TYPES[v.type]) for v in values})
        self._callback = HOST_FUNCTION(self._run)

    @classmethod
    def obstacle(cls, precision: Precision, device: int = 0) -> str | None:
        return None

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision, options: EngineOptions) -> Any:
        device = shared_device(options.device)
        return DevicePair(device, *open_graphs(cls, bundle, precision, options))

    @property
    def tensors(self) -> Any:
        return self._tensors.tensors

    def relocate(self, name: str, tensor: Any) -> None:
        self._tensors.relocate(name, tensor)

    def _array(self, name: str) -> np.ndarray:
        tensor = self.tensors[name]
        memory = (ctypes.c_uint8 * tensor.nbytes).from_address(tensor.pointer)
        return np.frombuffer(memory, tensor.dtype).reshape(tensor.shape)

    def _run(self, _: int) -> None:
        results = self._session.run(self._outputs, {name: self._array(name) for name in self._inputs})
        for name, value in zip(self._outputs, results, strict=True):
            self._array(name)[...] = value
            if self.poisoned is not None:
                self._array(name)[self.poisoned] = np.nan

    def enqueue(self, stream: Stream) -> None:
        cu = stream.device.cu
        function = cu.CUhostFn(_ptr=ctypes.addressof(self._callback))
        assert int(cu.cuLaunchHostFunc(stream.handle, function, 0)[0]) == 0

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        return None

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("the loop does not call it")

    def share(self) -> "HostNetwork":
        other = copy.copy(self)
        other._tensors = Tensors(shared_device(), {n: (t.shape, t.dtype) for n, t in self.tensors.items()})
        other._callback = HOST_FUNCTION(other._run)
        return other

    def describe(self) -> dict[str, Any]:
        return {"backend": self.name}

    def close(self) -> None:
        with self.device.current():
            self._tensors.free()


@pytest.fixture
def host_backend(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a backend whose networks run in the device loop."""
    from jntrt.runtime import engines
    from jntrt.runtime.engines import auto

    original = engines.backend_class
    for module in (engines, auto):
        monkeypatch.setattr(
            module, "backend_class", lambda name: HostNetwork if name == "host" else original(name)
        )
    return "host"
