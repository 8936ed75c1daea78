"""TensorRT and TensorRT-RTX: engines built here, kept in the cache, gated once by the bundle's samples."""

import copy
import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self

from jntrt.runtime.bundle import Bundle, file_sha256
from jntrt.runtime.bundle.manifest import GRAPHS
from jntrt.runtime.cuda.driver import Buffer, CudaError, DeviceInfo, Stream, in_context
from jntrt.runtime.cuda.driver_needs import LEAST_DRIVER, driver_obstacle, wheel_cuda
from jntrt.runtime.cuda.loop import DeviceTensor
from jntrt.runtime.engines.device import (
    DeviceEngine,
    DevicePair,
    bf16_obstacle,
    describe_device,
    kernel_obstacle,
    shared_device,
    tf32_obstacle,
)
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair, open_graphs
from jntrt.runtime.engines.precision import Precision, find_precision
from jntrt.runtime.engines.tensorrt import gate as engine_gate
from jntrt.runtime.engines.tensorrt.build import (
    EXTRAS,
    FLAVOURS,
    INSTALL,
    RECIPE,
    build_plan,
    last_error,
    load_flavour,
    logger,
    portable_targets,
)
from jntrt.runtime.engines.tensorrt.cache import (
    Engine,
    EngineCache,
    EngineKey,
    EngineRefused,
    compiled_key,
)
from jntrt.runtime.engines.tensorrt.own import check_tensors
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

LEAST = {**LEAST_DRIVER, 12: (12020, "r535")}  # TensorRT's wheels ask for more than CUDA 12 does


def engine_key(
    model: str, precision: str, flavour: str, device: DeviceInfo, options: EngineOptions
) -> EngineKey:
    """The cache's key of an engine. `model`: sha256 of the ONNX file."""
    major, minor = device.compute_capability
    portable = options.build.portable
    return EngineKey(
        model=model,
        precision=precision,
        flavour=flavour,
        version=load_flavour(flavour).__version__,
        gpu="Ampere and later" if portable else device.name,
        gpu_uuid=""
        if options.engine_key or portable
        else device.uuid,  # a fleet's GPUs of a model share engines
        compute_capability="8.0+" if portable else f"{major}.{minor}",
        driver=device.driver,
        recipe=RECIPE,
        options=options.build.key(),
    )


def obtain_engine(
    graph: Path,
    model: str,
    precision: str,
    flavour: str,
    device: DeviceInfo,
    options: EngineOptions,
    cache: EngineCache,
) -> tuple[EngineKey, Engine]:
    """A graph's engine for a device, from the cache or built into it. `model`: sha256 of the ONNX file.

    Raises UserError where it cannot be built, and for a portable one on a GPU before Ampere.
    """
    if options.build.portable and device.compute_capability < (8, 0):
        raise UserError(
            f"--portable: one engine serves GPUs from Ampere (sm_80) on, {device.name} is"
            f" {device.architecture}: leave it out"
        )
    key = engine_key(model, precision, flavour, device, options)
    return key, cache.obtain(key, lambda: build_here(graph, precision, flavour, device, options))


def build_here(
    graph: Path,
    precision: str,
    flavour: str,
    device: DeviceInfo,
    options: EngineOptions,
    *,
    detailed: bool = False,
) -> bytes:
    """A graph's plan for a device; `detailed`: as in `build_plan`. Raises UserError where it fails."""
    major, minor = device.compute_capability
    targets: tuple[str, ...] = ()
    if flavour == "tensorrt-rtx":
        here = (f"SM{major}{minor}",)
        targets = portable_targets(load_flavour(flavour)) if options.build.portable else here
    log.info("building the engine of %s with %s for %s", graph.name, flavour, device.name)
    return build_plan(
        graph.read_bytes(),
        flavour,
        options.build,
        targets=targets,
        tf32=find_precision(precision).tf32,
        progress=options.progress,
        detailed=detailed,
    )


class CompiledKernels:
    """RTX compiles an engine's kernels on the device in its first run; they are kept as engines are.

    A blob of compiled kernels is code as well, so it lies in the same cache under the same signature.
    """

    def __init__(self, runtime_config: Any, cache: EngineCache, key: EngineKey) -> None:
        """`key`: as `compiled_key` gives it."""
        self._cache = cache
        self._key = key
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


class TensorRT(DeviceEngine):
    """One graph in a TensorRT engine."""

    name = "tensorrt"
    _engine: Any = None
    _context: Any = None
    _runtime: Any = None
    _runtime_config: Any = None
    _scratch: Buffer | None = None
    _compiled: CompiledKernels | None = None
    _key: EngineKey
    profiled: Any = None  # engine and context, whose layers may be timed, for `EngineOptions.profile`

    def __init__(
        self,
        graph: Path,
        precision: Precision,
        options: EngineOptions,
        engine: tuple[EngineKey, Engine] | None = None,
    ) -> None:
        """`engine`: the graph's, where it is known already; else it comes from the cache, or is built.

        Raises UserError when the engine cannot be built or read.
        """
        self._given = engine
        super().__init__(graph, precision, options)

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision, options: EngineOptions) -> Pair:
        """A bundle's two graphs; new engines are gated first.

        Raises UserError when an engine cannot be built or read, GateError when one computes something else
        than its graph.
        """
        device = shared_device(options.device)
        with device.current():  # TensorRT builds for the GPU whose context is current
            _, engines = engine_gate.ensure(bundle, precision, cls.name, device.info, options)
            if options.profile is not None:  # an engine that tells its layers, for this run alone
                (key, _), graph = engines[1], bundle.graph("track", precision.stored)
                plan = build_here(graph, str(precision), cls.name, device.info, options, detailed=True)
                engines[1] = key, Engine(plan, {})
        return open_engines(cls, bundle, precision, options, engines)

    @classmethod
    def obstacle(cls, precision: Precision, device: int = 0) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec(FLAVOURS[cls.name]) is None:
            return f"{cls.name} is not installed: {INSTALL[cls.name]}"
        if precision.bf16 and not precision.typed:
            return (
                f"{precision} is OpenVINO's reading of the {precision.stored} graphs: take --backend openvino"
            )
        try:
            gpu = shared_device(device)  # first: a flavour takes a second to import
            too_old = driver_obstacle(
                cls.name, wheel_cuda(FLAVOURS[cls.name]), gpu.info.driver, EXTRAS[cls.name], LEAST
            )
            if too_old:
                return too_old
            trt = load_flavour(cls.name)
        except UserError as error:
            return str(error)
        return cls._device_obstacle(trt, gpu.info, precision) or kernel_obstacle(gpu)

    @classmethod
    def _device_obstacle(cls, trt: Any, device: DeviceInfo, precision: Precision) -> str | None:
        major, minor = device.compute_capability
        if (major, minor) < (7, 5):
            return f"{device.name} is {device.architecture}: TensorRT needs sm_75 (Turing) or later"
        if precision.bf16:
            return bf16_obstacle(precision, device)
        if cls.name != "tensorrt-rtx":
            return tf32_obstacle(precision, device)
        if not hasattr(trt.ComputeCapability, f"SM{major}{minor}"):
            return f"TensorRT-RTX has no {device.architecture} ({device.name}): take onnxruntime-cuda"
        if (major, minor) == (7, 5) and not precision.fp16:  # int8 has float32 around it
            return "TensorRT-RTX has no fp32 matrix product for sm_75 (Turing): take fp16 or int8-fp16"
        return tf32_obstacle(precision, device)

    def _open(self, graph: Path) -> None:
        self._key, kept = self._given or obtain_engine(
            graph,
            file_sha256(graph),
            str(self.precision),
            self.name,
            self.device.info,
            self.options,
            EngineCache.open(self.options.engine_key),
        )
        self._given = None  # the plan is megabytes
        trt = load_flavour(self.name)
        sink = logger(trt)
        sink.errors.clear()
        self._runtime = trt.Runtime(sink)
        self._engine = self._runtime.deserialize_cuda_engine(kept.plan)
        if self._engine is None:
            raise UserError(f"{self.name} cannot read the engine: {last_error(sink.errors)}")
        self._prepare(trt)

    def _prepare(self, trt: Any) -> None:
        """Context, stream and memory around the engine."""
        self._context = self._create_context(trt, EngineCache.open(self.options.engine_key), self._key)
        if self._context is None:
            raise UserError(f"{self.name} cannot run the engine: {last_error(logger(trt).errors)}")
        self._stream = Stream(self.device)
        engine = self._engine
        if self.options.profile is not None:
            self.profiled = (engine, self._context)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._hold(
            {
                name: (tuple(engine.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name)))
                for name in names
            },
            [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT],
        )

    def share(self) -> Self:
        """The same engine, its weights on the GPU once, with context, stream and memory of its own."""
        self._loaded()
        other = copy.copy(self)  # of runtime and engine the last one that holds them lets go
        other._context = other._scratch = other._compiled = other._stream = other._tensors = None
        try:
            with self.device.current():
                other._prepare(load_flavour(self.name))
        except BaseException:
            other.close()
            raise
        return other

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
        if self.options.profile is None:  # the cached engine's kernels are none of a profile's
            self._compiled = CompiledKernels(runtime_config, cache, compiled_key(key, self.device.info.name))
        self._runtime_config = runtime_config  # kept alive as long as what it made
        context = self._engine.create_execution_context(runtime_config)
        if context is not None:
            self._scratch = Buffer(self.device, self._engine.device_memory_size_v2)
            context.set_device_memory(self._scratch.pointer, self._scratch.nbytes)
        return context

    def _bind(self, name: str, tensor: DeviceTensor) -> None:
        if not self._context.set_tensor_address(name, tensor.pointer):
            raise UserError(f"{self.name} refuses the address of {name}: {last_error(self._errors())}")

    def _errors(self) -> list[str]:
        errors: list[str] = logger(load_flavour(self.name)).errors
        return errors

    def enqueue(self, stream: Stream) -> None:
        """Runs the engine on what lies in its inputs."""
        if not self._context.execute_async_v3(stream.handle):
            raise CudaError(f"{self.name} did not run: {last_error(self._errors())}")

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        """Why its work cannot be part of a CUDA graph, or None."""
        if self.profiled is not None:
            return "its layers are timed"
        is_capturable = getattr(self._context, "is_stream_capturable", None)
        if is_capturable is not None and not is_capturable(stream.handle):
            return f"{self.name} says that this engine cannot be captured"
        self._keep_compiled()
        return None

    def _keep_compiled(self) -> None:
        if self._compiled is not None:
            self._compiled.keep()

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name: a track graph's as arrays, the template graph's as they lie on the device."""
        outputs = super().run(feeds)
        self._keep_compiled()
        return outputs

    def describe(self) -> dict[str, Any]:
        """Flavour, version, GPU, driver and options."""
        return {
            "backend": self.name,
            "version": load_flavour(self.name).__version__,
            **describe_device(self.device.info),
            "options": self.options.build.key(),
        }

    @in_context
    def close(self) -> None:
        """Lets the engine and its memory go."""
        self._context = self._engine = self._runtime = self._runtime_config = None
        self._compiled = self.profiled = None
        if self._scratch is not None:
            self._scratch.free()
            self._scratch = None
        super().close()


class TensorRTRTX(TensorRT):
    """One graph in a TensorRT-RTX engine."""

    name = "tensorrt-rtx"


def open_engines(
    flavour: Callable[..., Any],
    bundle: Bundle,
    precision: Precision,
    options: EngineOptions,
    engines: list[tuple[EngineKey, Engine]],
) -> DevicePair:
    """A bundle's two graphs in `engines`, whatever their gate says. Raises UserError as `TensorRT` does."""
    given = iter(engines)
    networks = open_graphs(
        lambda graph, precision, options: flavour(graph, precision, options, next(given)),
        bundle,
        precision,
        options,
    )
    if options.own_engines is not None:
        try:
            for graph, opened in zip(GRAPHS, networks, strict=True):
                check_tensors(bundle.graph(graph, precision.stored), opened.tensors)
        except UserError:
            for opened in networks:
                opened.close()
            raise
    return DevicePair(shared_device(options.device), *networks)
