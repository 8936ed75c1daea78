"""What a user may choose about an engine."""

from dataclasses import dataclass, field

from jntrt.runtime.engines.cpu import check_threads
from jntrt.runtime.engines.tensorrt.build import BuildOptions, Progress


@dataclass(frozen=True)
class EngineOptions:
    """Each engine reads what concerns it.

    threads: of a CPU engine; None leaves their number to it. device: the GPU's number. build, progress: of
    TensorRT, whose engines are built where the cache has none. own_graph: ONNX Runtime on the GPU replays a
    CUDA graph of its own.
    """

    threads: int | None = None
    device: int = 0
    build: BuildOptions = field(default_factory=BuildOptions)
    progress: Progress | None = None
    own_graph: bool = False

    def __post_init__(self) -> None:
        check_threads(self.threads)
