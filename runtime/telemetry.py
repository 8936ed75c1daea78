"""Engines phone home unless told not to; here they are told, and what the user says himself stays.

ONNX Runtime from 1.31 on writes a device id and its sessions' events under the user's cache and looks a
collector up some seconds into tracking. OpenVINO's Python package does the same when it is imported, from a
process of its own.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def silence_onnxruntime() -> None:
    """Before ONNX Runtime is imported: no telemetry, unless the variable has a value already."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@contextmanager
def silent_openvino() -> Iterator[None]:
    """Around the first import of OpenVINO, which then takes its own stand-in for a missing telemetry package.

    Left alone where the user has told OpenVINO's `opt_in_out` what he wants, or uses the package himself.
    """
    name = "openvino_telemetry"
    if name in sys.modules or _consent_file().exists():
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        yield
    finally:
        del sys.modules[name]


def _consent_file() -> Path:
    """Where `opt_in_out` keeps the user's word."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", ""), "Intel Corporation", "openvino_telemetry")
    return Path(os.path.expanduser("~"), "intel", "openvino_telemetry")
