"""What a user may choose about an engine."""

from dataclasses import dataclass, field
from pathlib import Path

from jntrt.runtime.engines.cpu import check_threads
from jntrt.runtime.engines.tensorrt.build import BuildOptions, Progress


@dataclass(frozen=True)
class EngineOptions:
    """Each engine reads what concerns it.

    threads: of a CPU engine; None leaves their number to it. spin: ONNX Runtime's idle threads turn in a
    loop until the next call, which starts it sooner and takes cores from a decoder beside it. device: the
    GPU's number. build, progress: of TensorRT, whose engines are built where the cache has none.
    own_engines: files of the template and the track graph's TensorRT engines, in place of ours; trust: they
    may run, as code may. engine_key: the file of the key that signs them for a fleet, in place of this
    machine's. own_graph: ONNX Runtime on the GPU replays a CUDA graph of its own. profile: a folder; ONNX
    Runtime leaves its profile of every layer there, OpenVINO counts in `OpenVino.profiled`, TensorRT opens
    an engine that tells its layers in `TensorRT.profiled`, built for it and not kept. All are slower for it.
    """

    threads: int | None = None
    spin: bool = False
    device: int = 0
    build: BuildOptions = field(default_factory=BuildOptions)
    progress: Progress | None = None
    engine_key: Path | None = None
    own_engines: tuple[Path, Path] | None = None
    trust: bool = False
    own_graph: bool = False
    profile: Path | None = None

    def __post_init__(self) -> None:
        check_threads(self.threads)
