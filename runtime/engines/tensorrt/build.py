"""An ONNX file to a TensorRT plan: TensorRT 10.3 and later, 11, and TensorRT-RTX through one code path.

The three share what is used here: networks are strongly typed (types come from the graph, no precision
flag is ever touched), tensors have names, a failed build returns None. Where their tables of names
differ, `getattr` decides. TensorRT-RTX builds without a GPU for the compute capabilities it is told;
TensorRT builds on the GPU that the engine is for.
"""

import importlib
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

FLAVOURS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}  # backend name → module
EXTRAS = {"tensorrt": "trt", "tensorrt-rtx": "rtx"}
INSTALL = {
    name: f"pip install 'jntrt[{extra}]' ({extra}-cu12 for a driver before r580)"
    for name, extra in EXTRAS.items()
}
RECIPE = 2  # of `_build`: counted up where it makes another engine of the same graph and options
OLDEST = (10, 3)  # JetPack 6's; the oldest whose names were compared

# Called with the innermost phase's name, its step and its number of steps; False cancels the build.
Progress = Callable[[str, int, int], bool]


@dataclass(frozen=True)
class BuildOptions:
    """What a user may choose about a build."""

    workspace_mib: int | None = None  # scratch memory that a layer may ask for; None: all of the device's
    optimization_level: int | None = None  # 0 … 5; None: the library's default, 3
    max_aux_streams: int | None = None  # beside the main one; None: the library's choice
    timing_cache: Path | None = None  # read where it exists, written after the build
    portable: bool = False  # one engine for every GPU from Ampere on, slower than one for this GPU

    def __post_init__(self) -> None:
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise UserError(f"--workspace {self.workspace_mib}: give whole MiB above zero")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise UserError(f"--optimization-level {self.optimization_level}: give 0 to 5")
        if self.max_aux_streams is not None and self.max_aux_streams < 0:
            raise UserError(f"--max-aux-streams {self.max_aux_streams}: give 0 or more")

    def key(self) -> dict[str, Any]:
        """The part that makes another engine. (A timing cache only spares measuring again.)"""
        fields = asdict(self)
        del fields["timing_cache"]
        return fields


def load_flavour(flavour: str) -> ModuleType:
    """The module of a flavour, `tensorrt` or `tensorrt-rtx`. Raises UserError: missing, or too old."""
    try:
        trt = importlib.import_module(FLAVOURS[flavour])
    except ImportError as error:
        raise UserError(f"{flavour} is not installed: {INSTALL[flavour]}") from error
    except OSError as error:  # its own shared libraries are missing
        raise UserError(f"{flavour} does not load ({error}): install it again") from error
    version = tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:2])
    if flavour == "tensorrt" and version < OLDEST:
        raise UserError(f"TensorRT {trt.__version__} is too old: 10.3 or later is needed, {INSTALL[flavour]}")
    return trt


_loggers: dict[str, Any] = {}


def logger(trt: ModuleType) -> Any:
    """The process's one logger for a flavour: TensorRT ignores a second one while anything of the first
    lives.

    Its messages go to Python's logging; `errors` keeps the last ones, for the one line that a user sees.
    """
    if trt.__name__ not in _loggers:
        levels = {
            trt.ILogger.INTERNAL_ERROR: logging.ERROR,
            trt.ILogger.ERROR: logging.ERROR,
            trt.ILogger.WARNING: logging.WARNING,
            trt.ILogger.INFO: logging.DEBUG,
            trt.ILogger.VERBOSE: logging.DEBUG - 1,
        }

        class Logger(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.errors: list[str] = []
                self.listings: list[str] = []  # "Layers:" messages, of builds with detailed profiling

            def log(self, severity: Any, message: str) -> None:
                level = levels.get(severity, logging.DEBUG)
                if level == logging.ERROR:
                    self.errors.append(message.strip())
                    level = logging.WARNING  # the caller raises; this is the detail
                if message.startswith("Layers:"):
                    self.listings.append(message)
                log.log(level, "%s: %s", trt.__name__, message.strip())

        _loggers[trt.__name__] = Logger()
    return _loggers[trt.__name__]


def last_error(messages: list[str]) -> str:
    """TensorRT's own words, on one line, for an error message; empties the list."""
    text = " ".join(messages[0].split()) if messages else "no reason given"
    messages.clear()
    return text if len(text) < 300 else text[:297] + "..."


@contextmanager
def _ctrl_c_held() -> Iterator[list[int]]:
    """Within, Ctrl-C only adds to the list; its handler is called at the end.

    Python raises KeyboardInterrupt where its code runs next, which in a build is a callback (progress, log),
    and TensorRT swallows what its callbacks raise.
    """
    arrived: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    signal.signal(signal.SIGINT, lambda number, _: arrived.append(number))
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGINT, handler)
        if arrived:
            handler(arrived[0], None)


def _monitor(trt: ModuleType, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress(phase_name, step + 1, self.steps.get(phase_name, 0))

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


def build_plan(
    model: bytes,
    flavour: str,
    options: BuildOptions,
    *,
    targets: tuple[str, ...] = (),
    tf32: bool = False,
    progress: Progress | None = None,
    detailed: bool = False,
) -> bytes:
    """The serialised engine of an ONNX model (its bytes).

    `targets`: compute capabilities such as "SM89", for TensorRT-RTX alone; TensorRT builds for the
    current device. tf32: float32 products may be rounded to it. With `detailed` the layer listing goes to
    the logger's `listings` (RTX) and into the plan's inspector. Raises UserError with the library's reason;
    KeyboardInterrupt after Ctrl-C.
    """
    with _ctrl_c_held() as arrived:

        def step(phase: str, done: int, count: int) -> bool:
            return (progress is None or progress(phase, done, count)) and not arrived

        return _build(model, flavour, options, targets, tf32, step, detailed)


def _build(
    model: bytes,
    flavour: str,
    options: BuildOptions,
    targets: tuple[str, ...],
    tf32: bool,
    progress: Progress,
    detailed: bool,
) -> bytes:
    trt = load_flavour(flavour)
    log_sink = logger(trt)
    log_sink.errors.clear()
    try:
        builder = trt.Builder(log_sink)
    except (TypeError, RuntimeError) as error:  # pybind's word for a null pointer: CUDA does not start
        raise UserError(f"{flavour} does not start: {last_error(log_sink.errors)}") from error
    # Always on in 11 and RTX, which ignore the flag; TensorRT 10 needs it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log_sink)
    if not parser.parse(model):
        raise UserError(f"{flavour} cannot read the graph: {_parse_errors(parser, log_sink.errors)}")
    config = builder.create_builder_config()
    # On by default, and it rounds fp32 products to 10 bits: a graph's types are meant as they are written.
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.max_aux_streams is not None:
        config.max_aux_streams = options.max_aux_streams
    if detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.portable and flavour == "tensorrt":  # RTX: by its targets
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if targets:
        _set_targets(trt, config, targets)
    require_allocation = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if require_allocation is not None:
        config.set_flag(require_allocation)  # RTX: a context that allocates by itself cannot be captured
    cache = _read_timing_cache(flavour, config, options.timing_cache)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UserError(f"{flavour} cannot build the engine: {last_error(log_sink.errors)}")
    if cache is not None and options.timing_cache is not None:
        _write_timing_cache(options.timing_cache, bytes(memoryview(config.get_timing_cache().serialize())))
    return bytes(memoryview(plan))


def _parse_errors(parser: Any, errors: list[str]) -> str:
    problems = [parser.get_error(index) for index in range(parser.num_errors)]
    texts = []
    for problem in problems:
        where = problem.node_name() or problem.node_operator() or "the graph"
        texts.append(f"{problem.desc()} at {where}")
    return last_error(texts or errors)


def portable_targets(trt: ModuleType) -> tuple[str, ...]:
    """The compute capabilities from Ampere on that TensorRT-RTX builds for."""
    names = [name for name in dir(trt.ComputeCapability) if re.fullmatch(r"SM\d+", name)]
    return tuple(name for name in names if int(name[2:]) >= 80)


def _set_targets(trt: ModuleType, config: Any, targets: tuple[str, ...]) -> None:
    known = getattr(trt, "ComputeCapability", None)
    if known is None:
        raise UserError("TensorRT builds for the GPU at hand: leave the target out, or take tensorrt-rtx")
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(known, target, None)
        if capability is None or not config.set_compute_capability(capability, index):
            has = ", ".join(name for name in known.__members__ if name.startswith("SM"))
            raise UserError(f"TensorRT-RTX has no {target} (it has {has}): take tensorrt or onnxruntime-cuda")


def _read_timing_cache(flavour: str, config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    if flavour != "tensorrt":
        log.info("%s keeps no timing cache: %s is left alone", flavour, path)
        return None
    try:
        stored = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UserError(f"--timing-cache {path}: {error.strerror}") from error
    cache = config.create_timing_cache(stored)
    # False: another device's measurements would choose for this one.
    if cache is None or not config.set_timing_cache(cache, False):
        log.warning("the timing cache %s is of another device or version: starting a new one", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _write_timing_cache(path: Path, content: bytes) -> None:
    """Only a warning where it cannot be written: the engine took minutes and is not to be lost with it."""
    try:
        with replacing(path, "wb") as stream:
            stream.write(content)
    except (OSError, UserError) as error:
        log.warning("the timing cache is not kept: %s", error)
