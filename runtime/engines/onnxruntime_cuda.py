"""ONNX Runtime on the GPU: its CUDA provider, with every tensor at a fixed address in device memory.

Its graph cannot sit inside the device loop's, so a frame there is crop launch, session, box launch, all
on one stream. The provider needs the CUDA that it was built for and cuDNN 9; where it does not load, ONNX
Runtime says so only in its log and runs on the CPU, so what a session really got is looked up.
"""

import importlib.util
import logging
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jntrt.runtime.cuda.driver import INSTALL, CudaError, Event, Stream, in_context
from jntrt.runtime.cuda.driver_needs import driver_obstacle
from jntrt.runtime.cuda.loop import DeviceTensor
from jntrt.runtime.engines.device import (
    DeviceEngine,
    describe_device,
    kernel_obstacle,
    shared_device,
    tf32_obstacle,
)
from jntrt.runtime.engines.onnxruntime_session import open_session, ort_errors
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.errors import TrackerError, UserError

log = logging.getLogger(__name__)

PROVIDER = "CUDAExecutionProvider"
NEEDS = "it needs cuDNN 9 and the CUDA that it was built for: pip install 'jntrt[gpu]', or jntrt[gpu-cu12]"

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}

# An ONNX file of one Relu: what a session of it gets, any session gets.
PROBE = (
    b'\x08\t:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x14"
)


class OnnxRuntimeCuda(DeviceEngine):
    """One graph in an `InferenceSession` of the CUDA provider."""

    name = "onnxruntime-cuda"
    _session: Any = None
    _binding: Any = None
    _run_options: Any = None
    _order: Event | None = None

    @classmethod
    def obstacle(cls, precision: Precision, device: int = 0) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec("onnxruntime") is None:
            return f"onnxruntime-gpu is not installed: {INSTALL}"
        if precision.bf16 or precision.int8:
            return f"its CUDA provider has no {precision}: take fp16"
        import onnxruntime as ort

        # The list is of what was compiled in, and says nothing of a GPU; without it, this is the CPU's
        # wheel.
        if PROVIDER not in ort.get_available_providers():
            return "this onnxruntime has no CUDA: pip uninstall onnxruntime, pip install 'jntrt[gpu]'"
        try:
            gpu = shared_device(device)
        except CudaError as error:
            return str(error)
        built_for = int((getattr(ort, "cuda_version", "") or "0").split(".")[0])
        return (
            tf32_obstacle(precision, gpu.info)
            or driver_obstacle("onnxruntime-gpu", built_for, gpu.info.driver, "gpu")
            or provider_obstacle(device)
            or kernel_obstacle(gpu)
        )

    def _open(self, graph: Path) -> None:
        import onnxruntime as ort

        device = self.device
        self._stream, self._order = Stream(device), Event(device)
        settings = {
            "user_compute_stream": str(self._stream.handle),
            "use_tf32": str(int(self.precision.tf32)),  # on by default; a graph's types are meant as written
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "enable_cuda_graph": str(int(self.options.own_graph)),
        }
        try:
            self._session = cuda_session(graph, settings, device.info.ordinal)
        except ort_errors() as error:
            text = " ".join(str(error).split())
            if "fallback" in text:
                raise UserError(
                    f"{graph.name}: not every node runs in ONNX Runtime's CUDA provider: take another backend"
                ) from error
            raise UserError(f"{graph.name}: ONNX Runtime refuses the graph: {text[:200]}") from error
        self._binding = self._session.io_binding()
        self._run_options = ort.RunOptions()
        # The streams keep the order; waiting on the host would only add to it.
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        inputs = self._session.get_inputs()
        shapes = {}
        for value in (*inputs, *self._session.get_outputs()):
            if value.type not in TYPES:
                raise UserError(f"{graph.name}: tensor {value.name} is a {value.type}: export again")
            shapes[value.name] = (tuple(value.shape), TYPES[value.type])
        self._hold(shapes, [value.name for value in inputs])

    def _bind(self, name: str, tensor: DeviceTensor) -> None:
        bind = self._binding.bind_input if name in self._inputs else self._binding.bind_output
        bind(name, "cuda", self.device.info.ordinal, tensor.dtype.type, list(tensor.shape), tensor.pointer)

    def enqueue(self, stream: Stream) -> None:
        """Runs the session on what lies in its inputs, after what `stream` holds and before what follows."""
        own, order = self._stream, self._order
        assert own is not None
        assert order is not None
        if stream.handle != own.handle:
            own.wait_for(stream.handle, order)
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except ort_errors() as error:
            text = " ".join(str(error).split())
            raise TrackerError(f"{self.name} did not run: {text[:200]}") from error
        if stream.handle != own.handle:
            stream.wait_for(own.handle, order)

    @property
    def own_stream(self) -> Stream | None:
        """The session's: a loop on it needs no marks to wait for before and after the session."""
        return self._stream

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        """Why its work cannot be part of a CUDA graph: a session is not ours to capture."""
        return "ONNX Runtime's session cannot be part of another's graph"

    def describe(self) -> dict[str, Any]:
        """Version, GPU, driver, and whether the session replays a CUDA graph of its own."""
        import onnxruntime as ort

        return {
            "backend": self.name,
            "version": ort.__version__,
            **describe_device(self.device.info),
            "own graph": self.options.own_graph,
        }

    @in_context
    def close(self) -> None:
        """Lets the session and its memory go."""
        self._binding = self._session = None
        if self._order is not None:
            self._order.close()
            self._order = None
        super().close()


@cache
def provider_obstacle(device: int) -> str | None:
    """Why the CUDA provider does not run on that GPU, or None: a session of one node tells."""
    import onnxruntime as ort

    # It finds the CUDA and cuDNN libraries that lie in wheels, and prints; stdout is for boxes.
    with redirect_stdout(sys.stderr):
        ort.preload_dlls()
    try:
        with shared_device(device).current():  # a session changes the thread's device
            session = cuda_session(PROBE, {}, device)
    except ort_errors() as error:
        log.info("ONNX Runtime's CUDA provider: %s", error)
    else:
        if PROVIDER in session.get_providers():
            return None
    return f"its CUDA provider does not load: {NEEDS}"


def cuda_session(model: Path | bytes, settings: Mapping[str, str], ordinal: int) -> Any:
    """A session of the CUDA provider alone: a graph of which it cannot run every node is refused."""
    return open_session(
        model,
        entries={"session.disable_cpu_ep_fallback": "1"},
        providers=[(PROVIDER, {"device_id": str(ordinal), **settings})],
        # It would print to stdout, try the CPU instead, and report that in place of the reason.
        enable_fallback=0,
    )
