"""Runs one of our graphs node by node and really rounds: the reference for float16 and bfloat16.

ONNX Runtime's CPU provider computes a float16 graph in float32 and rounds only at its ends, which hides
overflow and most of the error. Here every node is computed in float32 from its inputs and its result is
rounded to the type that the graph gives it, as engines with float32 accumulation do (TensorRT's fused
kernels round less often, so this errs on the safe side). Int8 Q/DQ pairs are computed as they are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from typing_extensions import Self

from jntrt.calib.graph.operators import OPERATORS
from jntrt.calib.graph.view import Array, GraphView, attributes, place_of
from jntrt.runtime.errors import UserError

_NARROW = (torch.float16, torch.bfloat16)
_OWN_TYPE = {"Cast", "QuantizeLinear", "DequantizeLinear"}  # their result's type is their own business


class Emulator:
    """Executes `model` with rounding after every node.

    Raises UserError when the graph holds an operator that our exporter never writes.
    """

    def __init__(self, model: onnx.ModelProto, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)  # torch has one pool for the process
        self.view = GraphView(model)
        unknown = sorted({node.op_type for node in self.view.nodes} - set(OPERATORS))
        if unknown:
            names = ", ".join(unknown)
            raise UserError(f"the float16 emulation does not know {names}: export the graph anew")
        self._constants = {name: _tensor(value) for name, value in self.view.constants.items()}
        self._last_reader: dict[str, int] = {}
        for number, node in enumerate(self.view.nodes):
            self._last_reader.update(dict.fromkeys(node.input, number))

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        check_finite: bool = False,
    ) -> dict[str, Array]:
        """Values of `outputs` (default: the graph's outputs; interior tensors may be named).

        With `check_finite` a UserError names the first place whose result is not finite.
        """
        wanted = list(self.view.outputs if outputs is None else outputs)
        values: dict[str, Tensor] = dict(self._constants)
        values |= {name: _tensor(np.asarray(value)) for name, value in inputs.items()}
        for number, node in enumerate(self.view.nodes):
            for name, value in zip(node.output, self._compute(node, values), strict=False):
                if not name:
                    continue
                if check_finite and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                    raise UserError(
                        f"{place_of(node)} overflows in {str(value.dtype).removeprefix('torch.')}: "
                        "its result is not finite"
                    )
                values[name] = value
            for name in node.input:
                if self._last_reader.get(name) == number and name not in wanted:
                    values.pop(name, None)
        return {name: _array(values[name]) for name in wanted}

    def _compute(self, node: onnx.NodeProto, values: Mapping[str, Tensor]) -> list[Tensor]:
        arguments = [values[name] if name else None for name in node.input]
        kept_type = next((a.dtype for a in arguments if a is not None and a.is_floating_point()), None)
        wide = [a.float() if a is not None and a.dtype in _NARROW else a for a in arguments]
        result = OPERATORS[node.op_type](wide, attributes(node))
        results = list(result) if isinstance(result, tuple | list) else [result]
        if kept_type in _NARROW and node.op_type not in _OWN_TYPE:
            results = [r.to(kept_type) if r.is_floating_point() else r for r in results]
        return results


class Emulation:
    """The emulator as a network that a tracker can use."""

    name = "emulation"

    def __init__(self, graph: Path, threads: int | None) -> None:
        self._emulator = Emulator(onnx.load(graph), threads)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name; UserError with the layer's name when a value is not finite."""
        return self._emulator.run(feeds, check_finite=True)

    def share(self) -> Self:
        """Itself: a call leaves nothing behind."""
        return self

    def close(self) -> None:
        """Nothing to let go of."""

    def describe(self) -> dict[str, Any]:
        """What it is."""
        return {"backend": self.name, "device": "CPU"}


def _array(value: Tensor) -> Array:
    return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()


def _tensor(array: Array) -> Tensor:
    if array.dtype.name == "bfloat16":  # not NumPy's own: torch reads its bits
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, copy=True))
