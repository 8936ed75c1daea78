"""ONNX Runtime on the GPU: its CUDA provider, with every tensor at a fixed address in device memory.

Its graph cannot sit inside the device loop's, so a frame there is crop launch, session, box launch, all
on one stream. The provider needs CUDA 13 and cuDNN 9; where it does not load, ONNX Runtime says so only
in its log and runs on the CPU, so what a session really got is looked up.
"""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.cuda.driver import CudaError, Event, Stream
from jntrt.runtime.cuda.loop import DeviceLoop, DeviceTensor
from jntrt.runtime.cuda.network import Tensors, open_loop, shared_device
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

PROVIDER = "CUDAExecutionProvider"
NEEDS = "it needs CUDA 13 and cuDNN 9 (pip install 'onnxruntime-gpu[cuda,cudnn]' nvidia-cublas)"

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}


class OnnxRuntimeCuda:
    """One graph in an `InferenceSession` of the CUDA provider."""

    name = "onnxruntime-cuda"
    own_graph: ClassVar[bool] = False  # the session's own CUDA graph, between our two launches

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._session: Any = None
        self._binding: Any = None
        self._tensors: Tensors | None = None
        self._run_options: Any = None
        self._stream: Stream | None = None
        self._order: Event | None = None
        self._inputs: list[str] = []

    @classmethod
    def obstacle(cls, precision: str) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime-gpu is not installed: pip install 'jntrt[gpu]'"
        if precision not in ("fp32", "fp16"):
            return f"its CUDA provider has no {precision}: take fp16"
        import onnxruntime as ort

        # The list is of what was compiled in, and says nothing of a GPU; without it, this is the CPU's
        # wheel.
        if PROVIDER not in ort.get_available_providers():
            return "this onnxruntime has no CUDA: pip uninstall onnxruntime, pip install 'jntrt[gpu]'"
        try:
            shared_device()
        except CudaError as error:
            return str(error)
        return None

    @classmethod
    def open(cls, precision: str, threads: int | None) -> "OnnxRuntimeCuda":
        """An instance without a graph; threads mean nothing here."""
        return cls(precision)

    def load(self, graph: Path) -> None:
        """Open the graph. Raises UserError when the provider does not load or leaves a node to the CPU."""
        import onnxruntime as ort

        device = shared_device()
        self._stream, self._order = Stream(device), Event(device)
        preload = getattr(ort, "preload_dlls", None)
        if preload is not None:
            preload()  # finds the CUDA and cuDNN libraries that lie in wheels
        self._session = self._open_session(ort, graph, self._stream)
        if PROVIDER not in self._session.get_providers():
            raise UserError(f"ONNX Runtime's CUDA provider does not load: {NEEDS}")
        values = {value.name: value for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._tensors = Tensors(
            device, {name: (tuple(value.shape), TYPES[value.type]) for name, value in values.items()}
        )
        self._binding = self._session.io_binding()
        self._run_options = ort.RunOptions()
        # The streams keep the order; waiting on the host would only add to it.
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        for name in values:
            self._bind(name)

    def _open_session(self, ort: Any, graph: Path, stream: Stream) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Refuses to open a graph of which the CUDA provider cannot run every node.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider = {
            "device_id": str(shared_device().info.ordinal),
            "user_compute_stream": str(stream.handle),
            "use_tf32": "0",  # a graph's types are meant as they are written
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "enable_cuda_graph": str(int(self.own_graph)),
        }
        try:
            return ort.InferenceSession(str(graph), options, providers=[(PROVIDER, provider)])
        except (RuntimeError, ValueError) as error:  # pybind's exceptions of ONNX Runtime derive from these
            text = " ".join(str(error).split())
            if "fallback" in text or "CPU EP" in text:
                raise UserError(
                    f"{graph.name}: not every node runs in ONNX Runtime's CUDA provider: {NEEDS}"
                ) from error
            raise UserError(f"{graph.name}: ONNX Runtime refuses the graph: {text[:200]}") from error

    def _bind(self, name: str) -> None:
        tensor = self._loaded().tensors[name]
        bind = self._binding.bind_input if name in self._inputs else self._binding.bind_output
        bind(
            name, "cuda", shared_device().info.ordinal, tensor.dtype.type, list(tensor.shape), tensor.pointer
        )

    @property
    def tensors(self) -> Mapping[str, DeviceTensor]:
        """Inputs and outputs, on the device."""
        return self._loaded().tensors

    def place(self, name: str, tensor: DeviceTensor) -> None:
        """Makes `name` live in that memory from now on."""
        self._loaded().place(name, tensor)
        self._bind(name)

    def enqueue(self, stream: Stream) -> None:
        """Runs the session on what lies in its inputs, after what `stream` holds and before what follows."""
        own, order = self._stream, self._order
        assert own is not None
        assert order is not None
        if stream.handle != own.handle:
            own.wait_for(stream.handle, order)
        self._session.run_with_iobinding(self._binding, self._run_options)
        if stream.handle != own.handle:
            stream.wait_for(own.handle, order)

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        """Why its work cannot be part of a CUDA graph: a session is not ours to capture."""
        return "ONNX Runtime's session cannot be part of another's graph"

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name: a track graph's as arrays, the template graph's as they lie on the device."""
        tensors, stream = self._loaded(), self._stream
        assert stream is not None
        tensors.device.activate()
        tensors.upload(stream, feeds)
        self.enqueue(stream)
        stream.synchronize()
        outputs = [name for name in tensors.tensors if name not in self._inputs]
        if "search" not in self._inputs:
            return {name: tensors.tensors[name] for name in outputs}
        return {name: tensors.download(stream, name) for name in outputs}

    def device_loop(self, template: "OnnxRuntimeCuda", bundle: Bundle, *, swap: bool) -> DeviceLoop:
        """The loop that runs this (track) session after `template`."""
        return open_loop(shared_device(), template, self, bundle, swap=swap)

    def describe(self) -> dict[str, Any]:
        """Version, GPU and driver."""
        import onnxruntime as ort

        info = shared_device().info
        device = f"{info.name} ({info.architecture})"
        return {"backend": self.name, "version": ort.__version__, "device": device, "driver": info.driver}

    def close(self) -> None:
        """Lets the session and its memory go."""
        self._binding = self._session = None
        if self._tensors is not None:
            self._tensors.free()
            self._tensors = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._order is not None:
            self._order.close()
            self._order = None

    def _loaded(self) -> Tensors:
        if self._tensors is None:
            raise UserError(f"{self.name} has no graph yet: load one first")
        return self._tensors
