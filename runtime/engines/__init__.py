"""Engines that run a bundle's graphs, one module each; here is only the choice between them.

A backend is an `Engine`: it says beforehand why it cannot run here, and opens a bundle's pair of graphs.
"""

import importlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.engines.remembered import remembered_backend
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)


class Engine(Protocol):
    """What can say whether it runs here, and opens graphs."""

    name: str

    def __init__(self, graph: Path, precision: Precision, options: EngineOptions) -> None:
        """One graph by itself, of a file whose digest was verified. Raises UserError with the reason."""

    @classmethod
    def obstacle(cls, precision: Precision, device: int = 0) -> str | None:
        """Why this engine cannot run `precision` on this machine (one line with the remedy), or None.

        `device`: the number of the GPU that it would run on.
        """

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision, options: EngineOptions) -> Pair:
        """A bundle's two graphs, verified, and gated where the engine compiles them."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As in `Network`."""

    def describe(self) -> dict[str, Any]:
        """As in `Network`."""

    def close(self) -> None:
        """As in `Network`."""


# In the order in which `auto` asks them. On a CPU ONNX Runtime goes first: its outputs are the ones that
# bundles store, and in fp32 its p50 was below OpenVINO's on small networks. bf16 is OpenVINO's alone.
BACKENDS = {
    "tensorrt": "jntrt.runtime.engines.tensorrt.engine:TensorRT",
    "tensorrt-rtx": "jntrt.runtime.engines.tensorrt.engine:TensorRTRTX",
    "onnxruntime-cuda": "jntrt.runtime.engines.onnxruntime_cuda:OnnxRuntimeCuda",
    "onnxruntime": "jntrt.runtime.engines.onnxruntime:OnnxRuntime",
    "openvino": "jntrt.runtime.engines.openvino:OpenVino",
}

ON_CPU = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Choice:
    """The backend that was taken, and why each one before it was not, or why it went before all."""

    name: str
    passed_over: Mapping[str, str]
    reason: str = ""

    def __str__(self) -> str:
        """Short enough for one line: reasons without their remedies, which `--backend NAME` tells."""
        if self.reason:
            return f"{self.name} ({self.reason})"
        reasons = ", ".join(f"{name} ({_brief(name, why)})" for name, why in self.passed_over.items())
        return f"{self.name}; not {reasons}" if reasons else self.name


def _brief(name: str, obstacle: str) -> str:
    return re.sub(r" \(.*?\)", "", obstacle.split(": ")[0]).removeprefix(f"{name} is ")


def choose_backend(name: str, precision: Precision, device: int = 0) -> Choice:
    """Resolve a backend's name; `auto` takes the first that can run `precision` here and logs why.

    Raises UserError: an unknown name, a backend asked for by name that cannot run (it never falls back), or
    no backend at all.
    """
    if name != "auto":
        obstacle = backend_class(name).obstacle(precision, device)
        if obstacle:
            raise UserError(f"backend {name} cannot run {precision} here: {obstacle}")
        return Choice(name, {})
    passed_over: dict[str, str] = {}
    for candidate in BACKENDS:
        obstacle = backend_class(candidate).obstacle(precision, device)
        if obstacle is None:
            choice = Choice(candidate, passed_over)
            log.info("auto took %s [%s]", choice, "; ".join(passed_over.values()))
            return choice
        passed_over[candidate] = obstacle
    # What every machine can have goes before what needs a GPU.
    order = sorted(passed_over, key=lambda candidate: candidate not in ON_CPU)
    reasons = "; ".join(f"{candidate}: {passed_over[candidate]}" for candidate in order)
    raise UserError(f"no backend can run {precision} here ({reasons})")


def open_pair(
    bundle: Bundle, precision: Precision, options: EngineOptions, backend: str = "auto"
) -> tuple[Pair, Choice]:
    """A bundle's two graphs in a backend, by name or `auto`, and which that was.

    `auto`: what was measured to be the fastest and kept (`remembered`), else as `choose_backend`.

    Raises UserError as `choose_backend`, the bundle and the engine do, GateError where a compiled engine
    computes something else than its graphs.
    """
    if bundle.failed_gate(precision.stored):
        text = "bundle %s: %s failed its gate, its boxes are not those of fp32"
        log.warning(text, bundle.name, precision.stored)
    choice = _remembered(bundle, precision, options.device) if backend == "auto" else None
    choice = choice or choose_backend(backend, precision, options.device)
    return backend_class(choice.name).open(bundle, precision, options), choice


def _remembered(bundle: Bundle, precision: Precision, device: int) -> Choice | None:
    name = remembered_backend(bundle, precision)
    if name is None or name not in BACKENDS or backend_class(name).obstacle(precision, device):
        return None
    choice = Choice(name, {}, "the fastest here by bench-jn latency --remember")
    log.info("auto took %s", choice)
    return choice


def backend_class(name: str) -> type[Engine]:
    """The class behind a name; its engine is not imported yet. Raises UserError for a name that is none."""
    if name not in BACKENDS:
        raise UserError(f"no backend {name!r}: take auto, {', '.join(BACKENDS)}")
    module, _, class_name = BACKENDS[name].partition(":")
    found: type[Engine] = getattr(importlib.import_module(module), class_name)
    return found
