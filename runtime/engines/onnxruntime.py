"""ONNX Runtime on the CPU."""

import copy
import importlib.util
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.cpu import NO_TF32, NO_TYPED_BF16, saturates_int8
from jntrt.runtime.engines.graph import int8_graph
from jntrt.runtime.engines.graph.onnx_bytes import read_nodes
from jntrt.runtime.engines.onnxruntime_session import open_session, ort_errors
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair, open_graphs
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.errors import TrackerError, UserError

log = logging.getLogger(__name__)

# Multiply-accumulates a frame. At 0.09 and 0.14 G one thread took 0.88 and 0.94 of what two that sleep take.
SMALL = 0.2e9


class OnnxRuntime:
    """One graph in an `InferenceSession` of the CPU provider."""

    name = "onnxruntime"

    def __init__(self, graph: Path, precision: Precision, options: EngineOptions) -> None:
        """Opens the graph. Raises UserError with ONNX Runtime's reason in one line."""
        self.threads, self.spins = options.threads, options.spin
        self._session: Any = None
        self._int8: dict[str, Any] = {}
        self._profile = None if options.profile is None else options.profile / graph.name
        nodes = read_nodes(graph.read_bytes()) if precision.int8 else []
        layers = int8_graph.quantised_layers(nodes)
        try:
            self._session = self._int8_session(graph, layers) if layers else self._opened(graph)
        except ort_errors() as error:
            raise UserError(f"{graph}: ONNX Runtime refuses the graph: {_first_line(error)}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    @classmethod
    def obstacle(cls, precision: Precision, device: int = 0) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install 'jntrt[cpu]'"
        if precision.bf16 and precision.typed:
            return NO_TYPED_BF16
        if precision.bf16:
            return "bf16 on a CPU is OpenVINO's: take --backend openvino"
        if precision.tf32:
            return NO_TF32
        return None

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision, options: EngineOptions) -> Pair:
        """A bundle's two graphs. On one thread where nothing else is asked for and the network is small:
        to wake a second one that sleeps costs more than it then does."""
        if options.threads is None and not options.spin and bundle.macs < SMALL:
            options = replace(options, threads=1)
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

    def share(self) -> Self:
        """The same session, which any number of threads may run."""
        return copy.copy(self)

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

    def _opened(self, model: Path | bytes, entries: Mapping[str, str] | None = None, **keywords: Any) -> Any:
        # Shapes that the file records falsely are an error: `graph_check` bounds the work by them.
        entries = {"session.strict_shape_type_inference": "1", **(entries or {})}
        return open_session(
            model,
            threads=self.threads,
            spin=self.spins,
            entries=entries,
            profile=self._profile,
            **keywords,
        )

    def _int8_session(self, graph: Path, layers: list[str]) -> Any:
        """A session of an int8 graph whose quantised layers all run in int8, or UserError."""
        model = int8_graph.unsigned_activations(graph.read_bytes())
        bits = int8_graph.weight_bits(model)
        exact = saturates_int8() and bits > 7
        if exact:
            _say_once()
        # The slower of two kernels, which widens to 16 bits before it adds.
        entries = {"session.x64quantprecision": "1"} if exact else {}
        with tempfile.TemporaryDirectory(prefix="jntrt-") as folder:
            optimised = Path(folder) / "optimised.onnx"
            # Fused into a Gemm, a quantised MatMul + Add runs in float (246 ms instead of 38 in ViT-B).
            session = self._opened(
                model, entries, optimised=optimised, disabled_optimizers=["MatMulAddFusion"]
            )
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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
