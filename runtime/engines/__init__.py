"""Engines that run a bundle's graphs, one module each; here is only the choice between them.

A backend is an `Engine`: it says beforehand why it cannot run here, and opens a bundle's pair of graphs.
"""

import importlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import Self

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import Precision
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

    def share(self) -> Self:
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


def choose_backend(
    name: str, precision: Precision, among: Iterable[str] = BACKENDS, device: int = 0
) -> Choice:
    """Resolve a backend's name; `auto` takes the first `among` them that can run `precision` and logs why.

    `device`: the number of the GPU.

    Raises UserError: an unknown name, a backend asked for by name that cannot run (it never falls back), or
    no backend at all.
    """
    if name != "auto":
        obstacle = backend_class(name).obstacle(precision, device)
        if obstacle:
            raise UserError(f"backend {name} cannot run {precision} here: {obstacle}")
        return Choice(name, {})
    passed_over: dict[str, str] = {}
    for candidate in among:
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


def backend_class(name: str) -> type[Engine]:
    """The class behind a name; its engine is not imported yet. Raises UserError for a name that is none."""
    if name not in BACKENDS:
        raise UserError(f"no backend {name!r}: take auto, {', '.join(BACKENDS)}")
    module, _, class_name = BACKENDS[name].partition(":")
    found: type[Engine] = getattr(importlib.import_module(module), class_name)
    return found
