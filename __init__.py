"""jntrt: trained visual trackers as checked ONNX bundles, and the runtime that tracks with them.

Names are imported when first asked for, so that `import jntrt` and every `--help` stay fast.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jntrt.runtime.bundle import Bundle
    from jntrt.runtime.errors import GateError, TrackerError, UserError
    from jntrt.runtime.result import TrackResult
    from jntrt.runtime.tracker import Tracker

__all__ = ["Bundle", "GateError", "TrackResult", "Tracker", "TrackerError", "UserError", "__version__"]

_MODULES = {
    "Bundle": "jntrt.runtime.bundle",
    "Tracker": "jntrt.runtime.tracker",
    "TrackResult": "jntrt.runtime.result",
    "GateError": "jntrt.runtime.errors",
    "TrackerError": "jntrt.runtime.errors",
    "UserError": "jntrt.runtime.errors",
}

try:
    __version__ = version("jntrt")
except PackageNotFoundError:
    __version__ = "unknown (jntrt is not installed, only imported)"


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
