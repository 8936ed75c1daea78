"""OpenVINO on the CPU."""

import copy
import importlib.util
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.cpu import NO_TF32, NO_TYPED_BF16, saturates_int8
from jntrt.runtime.engines.graph.graph_check import recorded_shapes
from jntrt.runtime.engines.graph.int8_graph import weight_bits
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair, open_graphs
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.telemetry import silent_openvino

log = logging.getLogger(__name__)


class OpenVino:
    """One graph, compiled for the CPU with its precision said out loud.

    Left alone, OpenVINO computes in bf16 where the CPU has it, whatever the graph says; so the hint is always
    given: f32, or bf16 when the user asked for it.
    """

    name = "openvino"

    def __init__(self, graph: Path, precision: Precision, options: EngineOptions) -> None:
        """Compiles the graph. Raises UserError with OpenVINO's reason in one line."""
        self.threads = options.threads
        self._hint = "bf16" if precision.bf16 else "f32"
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if self.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        if options.profile is not None:
            settings["PERF_COUNT"] = True
        if precision.int8 and saturates_int8() and weight_bits(graph.read_bytes()) > 7:
            _warn_of_saturation()
        try:
            model = core().read_model(str(graph))
            _check_shapes(model, graph)
            compiled = core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise UserError(f"{graph}: OpenVINO refuses the graph: {_last_line(error)}") from error
        self._compiled: Any = compiled
        self._request: Any = compiled.create_infer_request()
        # What is compiled and the request that counts its layers' times, for `EngineOptions.profile`.
        self.profiled: Any = None if options.profile is None else (compiled, self._request)
        self._outputs = [(port.any_name, port) for port in compiled.outputs]

    @classmethod
    def obstacle(cls, precision: Precision, device: int = 0) -> str | None:
        """Why it cannot run `precision` on this machine, or None."""
        if importlib.util.find_spec("openvino") is None:
            return "openvino is not installed: pip install 'jntrt[cpu]'"
        if precision.tf32:
            return NO_TF32
        if precision.bf16 and precision.typed:
            return NO_TYPED_BF16
        if precision.bf16 and "BF16" not in _capabilities():
            return f"this CPU has no bf16 instructions (AMX or AVX512-BF16): take {precision.stored}"
        return None

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision, options: EngineOptions) -> Pair:
        """A bundle's two graphs."""
        return Pair(*open_graphs(cls, bundle, precision, options))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
        """All outputs by name, copied out of the request's buffers.

        Raises TrackerError when the graph does not take these feeds.
        """
        try:
            self._request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        except (RuntimeError, ValueError) as error:
            text = f"OpenVINO cannot run the graph ({_last_line(error)}): try export-jn check on the bundle"
            raise TrackerError(text) from error
        return {name: self._request.get_tensor(port).data.copy() for name, port in self._outputs}

    def share(self) -> Self:
        """The same compiled graph with a request of its own."""
        other = copy.copy(self)
        other._request = self._compiled.create_infer_request()
        return other

    def describe(self) -> dict[str, Any]:
        """Engine, version, device, threads and the precision hint."""
        with silent_openvino():
            import openvino as ov

        return {
            "backend": self.name,
            "version": ov.__version__,
            "device": "CPU",
            "threads": self.threads if self.threads is not None else "all cores",
            "precision hint": self._hint,
        }

    def close(self) -> None:
        """Lets the compiled graph go."""
        self._request = self._compiled = self.profiled = None


def _check_shapes(model: Any, graph: Path) -> None:
    """UserError where a tensor's shape is not what the file records: the work is bounded by that."""
    recorded = recorded_shapes(graph)
    for operation in model.get_ops():
        for output in operation.outputs():
            found = output.get_partial_shape()
            for name in output.get_names() & recorded.keys():
                if found.is_dynamic or tuple(found.to_shape()) != recorded[name]:
                    raise UserError(f"{graph}: {name!r:.80} has another shape than the file records")


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:200] if lines else type(error).__name__


@cache
def _warn_of_saturation() -> None:
    log.warning(
        "this CPU has no VNNI: sums of 8-bit weights saturate in OpenVINO; make 7-bit ones with"
        " calib-jn --weight-bits 7, or take --backend onnxruntime"
    )


@cache
def core() -> Any:
    """The process's one `openvino.Core`, which lives as long as the process does.

    Each Core gives its thread a signal stack and puts the one before back at its end. Of two Cores that end
    in the order in which they began, the second puts back what the first has unmapped, and the next signal,
    Ctrl-C say, is a segmentation fault (seen with 2026.4).
    """
    with silent_openvino():
        import openvino as ov

    return ov.Core()


@cache
def _capabilities() -> tuple[str, ...]:
    return tuple(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
