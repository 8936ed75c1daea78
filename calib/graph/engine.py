"""Opens a graph that is no file yet, in the engine that calibration runs it in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from jntrt.calib.graph.emulate import Emulation
from jntrt.runtime.engines import Backend
from jntrt.runtime.engines.onnxruntime import OnnxRuntime
from jntrt.runtime.errors import UserError


def open_graph(model: onnx.ModelProto, precision: str = "fp32", threads: int | None = None) -> Backend:
    """`model`, ready to run: in the emulation where floats are float16, else in ONNX Runtime.

    Raises UserError as these engines do when they load.
    """
    engine: type[Backend] = Emulation if precision.endswith("fp16") else OnnxRuntime
    backend = engine.open(precision, threads)
    with tempfile.TemporaryDirectory(prefix="jntrt-") as folder:
        file = Path(folder) / "graph.onnx"
        onnx.save(model, file)
        try:
            backend.load(file)
        except UserError as error:
            reason = str(error).removeprefix(f"{file}: ")
            hint = "; --keep LAYER leaves a layer out of int8" if precision == "int8" else ""
            raise UserError(f"the {precision} {model.graph.name} graph: {reason}{hint}") from error
    return backend
