"""ONNX Runtime on the CPU."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jntrt.runtime.errors import UserError
from numpy.typing import NDArray


class OnnxRuntime:
    """One graph in an `InferenceSession` of the CPU provider."""

    name = "onnxruntime"

    def __init__(self, precision: str, threads: int | None) -> None:
        self.precision = precision
        self.threads = threads
        self._session: Any = None
        self._outputs: list[str] = []

    @classmethod
    def obstacle(cls, precision: str) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install 'jntrt[cpu]'"
        if precision == "bf16":
            return "bf16 on a CPU is OpenVINO's: take --backend openvino"
        return None

    @classmethod
    def open(cls, precision: str, threads: int | None) -> "OnnxRuntime":
        """An instance without a graph."""
        return cls(precision, threads)

    def load(self, graph: Path) -> None:
        """Open the graph. Raises UserError with ONNX Runtime's reason in one line."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        try:
            self._session = ort.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"], **self._load_options()
            )
        except _ort_errors() as error:
            raise UserError(f"{graph}: ONNX Runtime refuses the graph: {_first_line(error)}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
        """All outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))

    def describe(self) -> dict[str, Any]:
        """Engine, version, provider and threads."""
        import onnxruntime as ort

        threads = self.threads if self.threads is not None else "all cores"
        return {"backend": self.name, "version": ort.__version__, "device": "CPU", "threads": threads}

    def _load_options(self) -> dict[str, Any]:
        # Fused into a Gemm, a quantised MatMul + Add runs in float (246 ms instead of 38 in ViT-B).
        return {"disabled_optimizers": ["MatMulAddFusion"]} if self.precision == "int8" else {}


def _ort_errors() -> tuple[type[Exception], ...]:
    # ONNX Runtime's exceptions have no common base below Exception and live in its extension module alone.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (RuntimeError, ValueError, state.RuntimeException, *(getattr(state, name) for name in names))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
