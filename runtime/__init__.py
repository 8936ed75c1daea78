"""The runtime: a bundle and frames to boxes. It needs no torch.

`Tracker` and `Bundle` are imported when first asked for, so that the commands' `--help` stays fast.
"""

from typing import TYPE_CHECKING, Any

from jntrt.runtime.telemetry import silence_onnxruntime

if TYPE_CHECKING:
    from jntrt.runtime.bundle import Bundle
    from jntrt.runtime.tracker import Tracker, TrackResult

# Here, since every room imports this one before it imports an engine.
silence_onnxruntime()

__all__ = ["Bundle", "TrackResult", "Tracker"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jntrt.runtime import bundle, tracker

    return getattr(bundle if name == "Bundle" else tracker, name)
