"""Opens a graph that is no file yet, in the engine that calibration runs it in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from jntrt.calib.graph.emulate import Emulation
from jntrt.calib.graph.view import Array
from jntrt.runtime.engines.onnxruntime import OnnxRuntime
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Network
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import UserError

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class Graphs:
    """One precision in one engine, ready to run.

    memory: names of what track reads of the template graph's outputs; kept: names of the kept sets, which are
    among track's outputs.
    """

    template: Run
    track: Run
    memory: frozenset[str]
    kept: tuple[str, ...] = ()


def open_graph(model: onnx.ModelProto, precision: str = "fp32", threads: int | None = None) -> Network:
    """`model`, ready to run: in the emulation where floats are float16 or bfloat16, else in ONNX Runtime.

    Raises UserError as these engines do when they load.
    """
    with tempfile.TemporaryDirectory(prefix="jntrt-") as folder:
        file = Path(folder) / "graph.onnx"
        onnx.save(model, file)
        kind = find_precision(precision)
        try:
            if kind.fp16 or kind.bf16:
                return Emulation(file, threads)
            return OnnxRuntime(file, kind, EngineOptions(threads))
        except UserError as error:
            reason = str(error).removeprefix(f"{file}: ")
            hint = "; --keep LAYER leaves a layer out of int8" if kind.int8 and not kind.fp16 else ""
            raise UserError(f"the {precision} {model.graph.name} graph: {reason}{hint}") from error
