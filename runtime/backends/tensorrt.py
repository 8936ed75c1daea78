"""TensorRT and TensorRT-RTX: engines built here, kept in the cache, gated once by the bundle's samples."""

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from jntrt.runtime.backends import engine_gate
from jntrt.runtime.backends.engine_cache import Engine, EngineCache, EngineKey, EngineRefused
from jntrt.runtime.backends.tensorrt_build import (
    FLAVOURS,
    INSTALL,
    BuildOptions,
    BuildSettings,
    build_plan,
    last_error,
    load_flavour,
    logger,
)
from jntrt.runtime.bundle import Bundle, file_sha256, is_bundle
from jntrt.runtime.cuda.driver import Buffer, CudaError, DeviceInfo, Stream
from jntrt.runtime.cuda.loop import DeviceLoop, DeviceTensor
from jntrt.runtime.cuda.network import Tensors, open_loop, shared_device
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

HOST_OUTPUTS = ("box", "score")  # all others are memory, which stays on the device


def engine_key(
    model: str, precision: str, flavour: str, device: DeviceInfo, options: BuildOptions
) -> EngineKey:
    """The cache's key of an engine. `model`: sha256 of the ONNX file."""
    major, minor = device.compute_capability
    return EngineKey(
        model=model,
        precision=precision,
        flavour=flavour,
        version=load_flavour(flavour).__version__,
        gpu=device.name,
        gpu_uuid=device.uuid,
        compute_capability=f"{major}.{minor}",
        driver=device.driver,
        options=options.key(),
    )


def obtain_engine(
    graph: Path,
    precision: str,
    flavour: str,
    device: DeviceInfo,
    settings: BuildSettings,
    cache: EngineCache,
) -> tuple[EngineKey, Engine]:
    """A graph's engine for a device, from the cache or built into it."""
    key = engine_key(file_sha256(graph), precision, flavour, device, settings.options)
    major, minor = device.compute_capability
    targets = (f"SM{major}{minor}",) if flavour == "tensorrt-rtx" else ()

    def build() -> bytes:
        log.info("building the engine of %s with %s for %s", graph.name, flavour, device.name)
        model = graph.read_bytes()
        return build_plan(model, flavour, settings.options, targets=targets, progress=settings.progress)

    return key, cache.obtain(key, build)


class CompiledKernels:
    """RTX compiles an engine's kernels on the device in its first run; they are kept as engines are.

    A blob of compiled kernels is code as well, so it lies in the same cache under the same signature.
    """

    def __init__(self, runtime_config: Any, cache: EngineCache, key: EngineKey) -> None:
        self._cache = cache
        self._key = replace(key, options={**key.options, "part": "compiled kernels"})
        self._runtime_cache = runtime_config.create_runtime_cache()
        try:
            stored = cache.read(self._key)
        except EngineRefused as refusal:
            log.warning("%s; they are compiled again", refusal)
            stored = None
        self._kept = stored is not None and bool(self._runtime_cache.deserialize(stored.plan))
        runtime_config.set_runtime_cache(self._runtime_cache)

    def keep(self) -> None:
        """Stores what the runs so far compiled; once."""
        if not self._kept:
            self._kept = True
            blob = self._runtime_cache.serialize()
            if blob is not None:
                self._cache.replace(self._key, bytes(memoryview(blob)))


class TensorRT:
    """One graph in a TensorRT engine."""

    name = "tensorrt"
    # Of this process; to be set before engines are opened.
    settings: ClassVar[BuildSettings] = BuildSettings()

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._engine: Any = None
        self._context: Any = None
        self._runtime: Any = None
        self._tensors: Tensors | None = None
        self._stream: Stream | None = None
        self._scratch: Buffer | None = None
        self._compiled: CompiledKernels | None = None
        self._inputs: list[str] = []

    @classmethod
    def obstacle(cls, precision: str) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec(FLAVOURS[cls.name]) is None:
            return f"{cls.name} is not installed: {INSTALL[cls.name]}"
        if precision == "bf16":
            return "bf16 is OpenVINO's reading of the fp32 graphs: take --backend openvino"
        try:
            device = shared_device().info  # first: a flavour takes a second to import
            trt = load_flavour(cls.name)
        except UserError as error:
            return str(error)
        return cls._device_obstacle(trt, device)

    @classmethod
    def _device_obstacle(cls, trt: Any, device: DeviceInfo) -> str | None:
        major, minor = device.compute_capability
        if (major, minor) < (7, 5):
            return f"{device.name} is {device.architecture}: TensorRT needs sm_75 (Turing) or later"
        known = getattr(trt, "ComputeCapability", None)
        if known is not None and not hasattr(known, f"SM{major}{minor}"):
            return f"TensorRT-RTX has no {device.architecture} ({device.name}): take onnxruntime-cuda"
        return None

    @classmethod
    def open(cls, precision: str, threads: int | None) -> "TensorRT":
        """An instance without a graph; threads mean nothing here."""
        return cls(precision)

    def load(self, graph: Path) -> None:
        """Take the graph's engine from the cache, or build and gate it first.

        Raises UserError when the engine cannot be built or read, GateError when it computes something else
        than the graph.
        """
        device = shared_device()
        if self.settings.gated and is_bundle(graph.parent):
            engine_gate.ensure(
                Bundle.open(graph.parent), self.precision, self.name, device.info, self.settings
            )
        cache = EngineCache()
        key, kept = obtain_engine(graph, self.precision, self.name, device.info, self.settings, cache)
        trt = load_flavour(self.name)
        sink = logger(trt)
        sink.errors.clear()
        self._runtime = trt.Runtime(sink)
        self._engine = self._runtime.deserialize_cuda_engine(kept.plan)
        if self._engine is None:
            raise UserError(f"{self.name} cannot read its own engine: {last_error(sink.errors)}")
        self._context = self._create_context(trt, cache, key)
        if self._context is None:
            raise UserError(f"{self.name} cannot run the engine: {last_error(sink.errors)}")
        self._bind(trt)

    def _bind(self, trt: Any) -> None:
        device = shared_device()
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._tensors = Tensors(
            device,
            {
                name: (tuple(engine.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name)))
                for name in names
            },
        )
        self._stream = Stream(device)
        for name, tensor in self._tensors.tensors.items():
            self._address(name, tensor)

    def _create_context(self, trt: Any, cache: EngineCache, key: EngineKey) -> Any:
        """A context; in RTX with our memory, its own graphs off and its kernels kept from run to run."""
        create_config = getattr(self._engine, "create_runtime_config", None)
        if self.name == "tensorrt" or create_config is None:
            return self._engine.create_execution_context()
        runtime_config = create_config()
        runtime_config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        strategies = getattr(trt, "CudaGraphStrategy", None)
        if strategies is not None:
            runtime_config.cuda_graph_strategy = strategies.DISABLED  # its capture cannot sit inside ours
        self._compiled = CompiledKernels(runtime_config, cache, key)
        context = self._engine.create_execution_context(runtime_config)
        if context is not None:
            self._scratch = Buffer(shared_device(), self._engine.device_memory_size_v2)
            context.set_device_memory(self._scratch.pointer, self._scratch.nbytes)
        return context

    def _address(self, name: str, tensor: DeviceTensor) -> None:
        if not self._context.set_tensor_address(name, tensor.pointer):
            raise UserError(f"{self.name} refuses the address of {name}: {last_error(self._errors())}")

    def _errors(self) -> list[str]:
        errors: list[str] = logger(load_flavour(self.name)).errors
        return errors

    @property
    def tensors(self) -> Mapping[str, DeviceTensor]:
        """Inputs and outputs, on the device."""
        return self._loaded().tensors

    def place(self, name: str, tensor: DeviceTensor) -> None:
        """Makes `name` live in that memory from now on."""
        self._loaded().place(name, tensor)
        self._address(name, tensor)

    def enqueue(self, stream: Stream) -> None:
        """Runs the engine on what lies in its inputs."""
        if not self._context.execute_async_v3(stream.handle):
            raise CudaError(f"{self.name} did not run: {last_error(self._errors())}")

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        """Why its work cannot be part of a CUDA graph, or None."""
        is_capturable = getattr(self._context, "is_stream_capturable", None)
        if is_capturable is not None and not is_capturable(stream.handle):
            return f"{self.name} says that this engine cannot be captured"
        self._keep_compiled()
        return None

    def _keep_compiled(self) -> None:
        if self._compiled is not None:
            self._compiled.keep()

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name: box and score as arrays, memory as it lies on the device."""
        tensors, stream = self._loaded(), self._stream
        assert stream is not None
        tensors.device.activate()
        tensors.upload(stream, feeds)
        self.enqueue(stream)
        stream.synchronize()
        self._keep_compiled()
        outputs = [name for name in tensors.tensors if name not in self._inputs]
        return {
            name: tensors.tensors[name] if self._is_memory(name) else tensors.download(stream, name)
            for name in outputs
        }

    def _is_memory(self, name: str) -> bool:
        return name not in HOST_OUTPUTS and "search" not in self._inputs

    def device_loop(self, template: "TensorRT", bundle: Bundle, *, swap: bool) -> DeviceLoop:
        """The loop that runs this (track) engine after `template`."""
        return open_loop(shared_device(), template, self, bundle, swap=swap)

    def describe(self) -> dict[str, Any]:
        """Flavour, version, GPU, driver and options."""
        info = shared_device().info
        return {
            "backend": self.name,
            "version": load_flavour(self.name).__version__,
            "device": f"{info.name} ({info.architecture})",
            "driver": info.driver,
            "options": self.settings.options.key(),
        }

    def close(self) -> None:
        """Lets the engine and its memory go."""
        self._context = self._engine = self._runtime = self._compiled = None
        if self._tensors is not None:
            self._tensors.free()
            self._tensors = None
        if self._scratch is not None:
            self._scratch.free()
            self._scratch = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _loaded(self) -> Tensors:
        if self._tensors is None:
            raise UserError(f"{self.name} has no graph yet: load one first")
        return self._tensors


class TensorRTRTX(TensorRT):
    """One graph in a TensorRT-RTX engine."""

    name = "tensorrt-rtx"
