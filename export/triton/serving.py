"""What the user may choose of a server: the flags of `export-jn triton`."""

from dataclasses import dataclass
from pathlib import Path

from jntrt.runtime.errors import UserError


@dataclass(frozen=True)
class Serving:
    """How the models are served.

    Parameters
    ----------
    precision
        fp32, or another one that the bundle has.
    backend
        Engine of the tracker: auto (onnxruntime), onnxruntime, openvino, tensorrt …
    threads
        CPU threads of one instance's engine.
    instances
        Processes that follow streams, each with an engine of its own.
    streams
        Streams that one instance follows at once.
    targets
        Targets of one stream, at most.
    idle
        Seconds without a frame after which a stream is forgotten: longer than a camera pauses.
    max_pixels
        Refuse frames with more pixels.
    networks
        own: the tracker opens its own engine; served: it calls the models jntrt_template and jntrt_track.
    only_tracker
        Leave those two models out: for a server without ONNX Runtime's backend.
    plans
        A folder with template.plan and track.plan, built by the server's own TensorRT, to be served in place
        of the ONNX graphs.
    """

    precision: str = "fp32"
    backend: str = "onnxruntime"
    threads: int = 1
    instances: int = 1
    streams: int = 64
    targets: int = 16
    idle: float = 600.0
    max_pixels: int = 1 << 25
    networks: str = "own"
    only_tracker: bool = False
    plans: Path | None = None

    def __post_init__(self) -> None:
        for name in ("threads", "instances", "streams", "targets", "max_pixels", "idle"):
            if getattr(self, name) <= 0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name):g}: give a number above 0")
        if self.networks not in ("own", "served"):
            raise UserError(f"--networks {self.networks}: choose own or served")
        if self.only_tracker and (self.plans or self.networks == "served"):
            raise UserError("--only-tracker: leaves out the models that --plans and --networks served need")
