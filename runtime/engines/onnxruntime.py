"""ONNX Runtime on the CPU."""

import importlib.util
import logging
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.cpu import saturates_int8
from jntrt.runtime.engines.graph import int8_graph
from jntrt.runtime.engines.graph.onnx_bytes import read_nodes
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair, open_graphs
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.errors import TrackerError, UserError

log = logging.getLogger(__name__)


class OnnxRuntime:
    """One graph in an `InferenceSession` of the CPU provider."""

    name = "onnxruntime"

    def __init__(self, graph: Path, precision: Precision, options: EngineOptions) -> None:
        """Opens the graph. Raises UserError with ONNX Runtime's reason in one line."""
        import onnxruntime as ort

        self.threads, self.spins = options.threads, options.spin
        self._session: Any = None
        self._int8: dict[str, Any] = {}
        session_options = ort.SessionOptions()
        session_options.log_severity_level = 3
        session_options.inter_op_num_threads = 1
        session_options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spins)))
        # Shapes that the file records falsely are an error: `graph_check` bounds the work by them.
        session_options.add_session_config_entry("session.strict_shape_type_inference", "1")
        if self.threads is not None:
            session_options.intra_op_num_threads = self.threads
        nodes = read_nodes(graph.read_bytes()) if precision.int8 else []
        layers = int8_graph.quantised_layers(nodes)
        try:
            self._session = (
                self._int8_session(graph, session_options, layers)
                if layers
                else _session(graph, session_options)
            )
        except ort_errors() as error:
            raise UserError(f"{graph}: ONNX Runtime refuses the graph: {_first_line(error)}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    @classmethod
    def obstacle(cls, precision: Precision, device: int = 0) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install 'jntrt[cpu]'"
        if precision.bf16:
            return "bf16 on a CPU is OpenVINO's: take --backend openvino"
        return None

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision, options: EngineOptions) -> Pair:
        """A bundle's two graphs."""
        return Pair(*open_graphs(cls, bundle, precision, options))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
        """All outputs by name. Raises TrackerError when the graph does not take these feeds."""
        try:
            values = self._session.run(None, dict(feeds))
        except ort_errors() as error:
            text = (
                f"ONNX Runtime cannot run the graph ({_first_line(error)}): try export-jn check on the bundle"
            )
            raise TrackerError(text) from error
        return dict(zip(self._outputs, values, strict=True))

    def describe(self) -> dict[str, Any]:
        """Engine, version, provider, threads and what they do between two calls."""
        import onnxruntime as ort

        threads = self.threads if self.threads is not None else "all cores"
        return {
            "backend": self.name,
            "version": ort.__version__,
            "device": "CPU",
            "threads": threads,
            "idle threads": "spin" if self.spins else "sleep",
            **self._int8,
        }

    def close(self) -> None:
        """Lets the session go."""
        self._session = None

    def _int8_session(self, graph: Path, options: Any, layers: list[str]) -> Any:
        """A session of an int8 graph whose quantised layers all run in int8, or UserError."""
        model = int8_graph.unsigned_activations(graph.read_bytes())
        bits = int8_graph.weight_bits(model)
        exact = saturates_int8() and bits > 7
        if exact:
            # The slower of two kernels, which widens to 16 bits before it adds.
            options.add_session_config_entry("session.x64quantprecision", "1")
            _say_once()
        with tempfile.TemporaryDirectory(prefix="jntrt-") as folder:
            optimised = Path(folder) / "optimised.onnx"
            options.optimized_model_filepath = str(optimised)
            # Fused into a Gemm, a quantised MatMul + Add runs in float (246 ms instead of 38 in ViT-B).
            session = _session(model, options, disabled_optimizers=["MatMulAddFusion"])
            left = int8_graph.float_layers(layers, optimised.read_bytes())
        if left:
            raise UserError(
                f"{graph}: ONNX Runtime runs {len(left)} of {len(layers)} int8 layers in float"
                f" ({left[0]}): take another version of onnxruntime, or --backend openvino"
            )
        self._int8 = {
            "int8 layers": len(layers),
            "weight bits": bits,
            "int8 products": "exact, without VNNI" if exact else "fast",
        }
        return session


@cache
def _say_once() -> None:
    log.warning(
        "this CPU has no VNNI: int8 runs with slower products, the fast ones would saturate;"
        " calib-jn --weight-bits 7 makes weights that the fast ones are safe with"
    )


def _session(model: Path | bytes, options: Any, **keywords: Any) -> Any:
    import onnxruntime as ort

    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], **keywords)


def ort_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises.

    Its exceptions have no common base below Exception and live in its extension module alone.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile")
    own = (getattr(state, name) for name in (*names, "NotImplemented", "RuntimeException"))
    return (RuntimeError, ValueError, *own)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
