"""Engines that run a bundle's graphs, one module each; here is only the choice between them.

A backend is a class with three methods: `load(graph)`, `run(feeds)`, `describe()`; the class method
`obstacle(precision)` says beforehand why it cannot run here. One instance holds one graph.
"""

import importlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from jntrt.runtime.engines.cpu import check_threads
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)


class Backend(Protocol):
    """One graph in one engine."""

    name: str

    @classmethod
    def obstacle(cls, precision: str) -> str | None:
        """Why this engine cannot run `precision` on this machine (one line with the remedy), or None."""

    @classmethod
    def open(cls, precision: str, threads: int | None) -> Self:
        """An instance without a graph; `threads` None leaves their number to the engine."""

    def load(self, graph: Path) -> None:
        """Read an ONNX file whose digest was verified. Raises UserError when the engine refuses it."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name. Arrays in and out; memory tensors may be the engine's own objects."""

    def describe(self) -> dict[str, Any]:
        """What a figure has to say about the engine: name, version, device, threads, options."""


# In the order in which `auto` asks them. On a CPU ONNX Runtime goes first: its outputs are the ones that
# bundles store, and in fp32 its p50 was below OpenVINO's on small networks. bf16 is OpenVINO's alone.
BACKENDS = {
    "tensorrt": "jntrt.runtime.engines.tensorrt.engine:TensorRT",
    "tensorrt-rtx": "jntrt.runtime.engines.tensorrt.engine:TensorRTRTX",
    "onnxruntime-cuda": "jntrt.runtime.engines.onnxruntime_cuda:OnnxRuntimeCuda",
    "onnxruntime": "jntrt.runtime.engines.onnxruntime:OnnxRuntime",
    "openvino": "jntrt.runtime.engines.openvino:OpenVino",
}


# Precisions that are an engine's reading of graphs stored under another name.
STORED_AS = {"bf16": "fp32", "int8-bf16": "int8"}


@dataclass(frozen=True)
class Choice:
    """The backend that was taken, and why each one before it was not."""

    name: str
    passed_over: Mapping[str, str]

    def __str__(self) -> str:
        """Short enough for one line: reasons without their remedies, which `--backend NAME` tells."""
        reasons = ", ".join(f"{name} ({_brief(name, why)})" for name, why in self.passed_over.items())
        return f"{self.name}; not {reasons}" if reasons else self.name


def _brief(name: str, obstacle: str) -> str:
    return re.sub(r" \(.*?\)", "", obstacle.split(": ")[0]).removeprefix(f"{name} is ")


def choose_backend(name: str, precision: str) -> Choice:
    """Resolve a backend's name; `auto` takes the first that can run `precision` here and logs why.

    Raises UserError: an unknown name, a backend asked for by name that cannot run (it never falls back), or
    no backend at all.
    """
    if name != "auto":
        obstacle = backend_class(name).obstacle(precision)
        if obstacle:
            raise UserError(f"backend {name} cannot run {precision} here: {obstacle}")
        return Choice(name, {})
    passed_over: dict[str, str] = {}
    for candidate in BACKENDS:
        obstacle = backend_class(candidate).obstacle(precision)
        if obstacle is None:
            choice = Choice(candidate, passed_over)
            log.info("auto took %s [%s]", choice, "; ".join(passed_over.values()))
            return choice
        passed_over[candidate] = obstacle
    reasons = "; ".join(f"{candidate}: {reason}" for candidate, reason in passed_over.items())
    raise UserError(f"no backend can run {precision} here ({reasons})")


def open_backend(name: str, *, precision: str, threads: int | None = None) -> Backend:
    """A backend without a graph, by name or `auto`. Raises UserError as `choose_backend` does."""
    check_threads(threads)
    return backend_class(choose_backend(name, precision).name).open(precision, threads)


def backend_class(name: str) -> type[Backend]:
    """The class behind a name; its engine is not imported yet. Raises UserError for a name that is none."""
    if name not in BACKENDS:
        raise UserError(f"no backend {name!r}: take auto, {', '.join(BACKENDS)}")
    module, _, class_name = BACKENDS[name].partition(":")
    found: type[Backend] = getattr(importlib.import_module(module), class_name)
    return found
