"""Engines that the user brings: built by trtexec from a bundle's ONNX, trusted on purpose, never cached.

Reading an engine runs it, so nothing of a file reaches TensorRT before `--trust` was said; what it computes
is judged by the bundle's samples all the same, in every run.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from jntrt.runtime.cuda.loop import DeviceTensor
from jntrt.runtime.engines.graph.graph_check import recorded_ports
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import AUTO
from jntrt.runtime.engines.tensorrt.cache import Engine
from jntrt.runtime.errors import UserError

BACKEND = "tensorrt"  # trtexec's


def own_backend(backend: str, precision: str) -> str:
    """The backend of the user's engines. Raises UserError for another one, or where precision is `auto`."""
    if backend not in (AUTO, BACKEND):
        raise UserError(f"--engine: files of trtexec are --backend {BACKEND}'s, not {backend}'s")
    if precision == AUTO:
        raise UserError("--engine: say which ONNX files it was built from, such as --precision fp16")
    return BACKEND


def read_own_engines(options: EngineOptions) -> list[Engine]:
    """The plans of template and track graph. Raises UserError without trust, or for a file that is none."""
    assert options.own_engines is not None
    if not options.trust:
        raise UserError("--engine: an engine can run any code; add --trust if you know who built these files")
    plans = []
    for file in options.own_engines:
        try:
            plans.append(file.read_bytes())
        except OSError as error:
            raise UserError(f"--engine {file}: {error.strerror}") from error
    return [Engine(plan, {"sha256": hashlib.sha256(plan).hexdigest()}) for plan in plans]


def check_tensors(graph: Path, tensors: Mapping[str, DeviceTensor]) -> None:
    """Raises UserError unless an engine's tensors are its ONNX file's: the loop writes to where they lie."""
    expected = recorded_ports(graph)
    found = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            ours, theirs = (
                f"{side[name][0]} {side[name][1]}" if name in side else "none" for side in (expected, found)
            )
            raise UserError(
                f"--engine: {name} of {graph.name} is {ours}, the engine's {theirs}: build it as"
                " docs/gpu.md says"
            )
