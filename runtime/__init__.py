"""The runtime: a bundle and frames to boxes. It needs no torch.

Its names are imported when first asked for, so that the commands' `--help` stays fast:

- `Tracker`, `TrackResult`: a target, frame by frame; `Bundle`: what it tracks with;
- `EngineOptions`: what an engine may be told;
- `frames(source)`: RGB frames of a video file, a folder, a glob, a camera or a stream;
- `annotate(frame, …)`: boxes, scores and the speed drawn on a frame; `VideoWriter`: frames into a file;
- `UserError`, `TrackerError`, `GateError`: what they raise.
"""

from typing import TYPE_CHECKING, Any

from jntrt.runtime.telemetry import silence_onnxruntime

if TYPE_CHECKING:
    from jntrt.runtime.bundle import Bundle
    from jntrt.runtime.engines.options import EngineOptions
    from jntrt.runtime.errors import GateError, TrackerError, UserError
    from jntrt.runtime.result import TrackResult
    from jntrt.runtime.tracker import Tracker
    from jntrt.runtime.video.drawing import annotate
    from jntrt.runtime.video.sources import frames
    from jntrt.runtime.video.writer import VideoWriter

# Here, since every room imports this one before it imports an engine.
silence_onnxruntime()

__all__ = [
    "Bundle",
    "EngineOptions",
    "GateError",
    "TrackResult",
    "Tracker",
    "TrackerError",
    "UserError",
    "VideoWriter",
    "annotate",
    "frames",
]

_MODULES = {
    "Bundle": "bundle",
    "EngineOptions": "engines.options",
    "GateError": "errors",
    "TrackResult": "result",
    "Tracker": "tracker",
    "TrackerError": "errors",
    "UserError": "errors",
    "VideoWriter": "video.writer",
    "annotate": "video.drawing",
    "frames": "video.sources",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
