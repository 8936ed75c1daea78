"""A float32 graph made float16 or bfloat16, precision written into the graph (design rule 7).

Weights and activations become float16. float32 stay: the nodes whose role says so (those that choose, score
and decode: a float16 tie would change the choice), the scales and inner values of Q/DQ pairs, and every value
that calibration saw near the end of float16's range. Other products are never wrapped in casts: a Linear is
float16 or there is an error.

bfloat16 has float32's range and three bits of fraction fewer than float16: nothing overflows, and nothing
is kept for its size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jntrt.calib.graph.roles import roles_of
from jntrt.calib.graph.view import Array, GraphView, peak, place_of
from jntrt.runtime.errors import UserError

LARGEST = 65504.0  # of float16
NEAR = LARGEST / 4  # a value that calibration saw above this stays float32: unseen frames go further

_PRODUCTS = ("MatMul", "Conv", "Gemm")
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
# Operators that only move or compare numbers, or reduce them to fewer: what arrives in float32 stays so.
_FOLLOWERS = (
    *("Reshape", "Transpose", "Slice", "Gather", "Squeeze", "Unsqueeze", "Split", "TopK", "Concat"),
    *("Identity", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "GlobalAveragePool"),
)


@dataclass(frozen=True)
class Narrow:
    """The type that a graph is made of: ONNX's number for it, NumPy's type, how values in it are called."""

    element: int
    dtype: Any
    word: str


FLOAT16 = Narrow(TensorProto.FLOAT16, np.dtype(np.float16), "float16")
BFLOAT16_OPSET = 22  # the first whose convolutions, poolings and activations all know bfloat16


def to_bfloat16(model: onnx.ModelProto, memory: Collection[str] = ()) -> onnx.ModelProto:
    """`model` (all floats float32) in bfloat16, strongly typed; every input and output stays float32.

    memory: as for `to_float16`, but it is cast on its way: NumPy, and with it the runtimes, has no bfloat16.
    """
    import ml_dtypes

    view = GraphView(model)
    fixed = frozenset(roles_of(model).float32)
    narrow = Narrow(TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16), "bfloat16")
    wide = _wide_values(view, fixed, {}, memory)
    return _with_float32_ports(_Writer(view, fixed, wide, set(memory), narrow).model(), memory, narrow)


def _with_float32_ports(model: onnx.ModelProto, memory: Collection[str], narrow: Narrow) -> onnx.ModelProto:
    """The model with `memory` cast where it enters and where it leaves."""
    graph = model.graph
    inside = {name: f"{name}/{narrow.word}" for name in memory}

    def cast(source: str, target: str, element: int) -> onnx.NodeProto:
        return helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=element)

    nodes = [cast(v.name, inside[v.name], narrow.element) for v in graph.input if v.name in inside]
    for node in graph.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
        nodes.append(node)
    nodes += [cast(inside[v.name], v.name, TensorProto.FLOAT) for v in graph.output if v.name in inside]
    for value in (*graph.input, *graph.output):
        if value.name in inside:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(ordered)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def to_float16(
    model: onnx.ModelProto, peaks: Mapping[str, float] | None = None, memory: Collection[str] = ()
) -> onnx.ModelProto:
    """`model` (all floats float32) in float16, strongly typed.

    peaks: largest magnitude of interior values over the calibration crops (without them only the fixed
    float32 places stay so). memory: names of inputs or outputs that pass from the template graph to the track
    graph; they become float16, all other inputs and outputs keep their type.

    Raises UserError with the layer's name when a weight overflows float16, or when a product reads or makes
    values that do.
    """
    view = GraphView(model)
    fixed = frozenset(roles_of(model).float32)
    wide = _wide_values(view, fixed, peaks or {}, memory)
    return _Writer(view, fixed, wide, set(memory), FLOAT16).model()


def float32_places(model: onnx.ModelProto) -> list[str]:
    """Places of a float16 graph that compute in float32, for the report; casts and Q/DQ do not count."""
    view = GraphView(model)
    skipped = ("Cast", *_QUANTISERS)
    return [
        place_of(node)
        for node in view.nodes
        if node.op_type not in skipped
        and any(view.types.get(name) == TensorProto.FLOAT for name in (*node.input, *node.output))
    ]


def _wide_values(
    view: GraphView, fixed: Collection[str], peaks: Mapping[str, float], memory: Collection[str]
) -> set[str]:
    """Names of the values that stay float32."""
    wide = {name for name in (*view.inputs, *view.outputs) if name not in memory}
    wide |= _near_the_end(view, fixed, peaks)
    for node in view.nodes:  # in topological order: what only follows float32 values stays float32
        if node.name in fixed or node.op_type == "DequantizeLinear" or _follows(view, node, wide):
            wide |= {name for name in node.output if name and view.is_float(name)}
    return wide - set(memory)


def _follows(view: GraphView, node: onnx.NodeProto, wide: Collection[str]) -> bool:
    floats = [name for name in node.input if view.is_float(name) and name not in view.constants]
    if node.op_type not in _FOLLOWERS or not floats or not all(name in wide for name in floats):
        return False
    return not any(_is_quantiser(view, name) for name in floats)


def _near_the_end(view: GraphView, fixed: Collection[str], peaks: Mapping[str, float]) -> set[str]:
    """Values to keep float32 for their size; UserError where a product would overflow."""
    near = set()
    for name, value in peaks.items():
        maker = view.producer.get(name)
        if maker is None or value <= NEAR:
            continue
        if not value <= LARGEST:
            for node in (maker, *view.readers.get(name, [])):
                if node.op_type in _PRODUCTS and node.name not in fixed:
                    raise UserError(_overflow(node, name, value))
        if maker.op_type not in _PRODUCTS:
            near.add(name)
    return near


def _overflow(node: onnx.NodeProto, name: str, value: float) -> str:
    return (
        f"{place_of(node)} overflows in float16: {value:.3g} in {name}, where float16 ends at {LARGEST:.0f}; "
        "this network needs --precision int8, or fp32"
    )


def _is_quantiser(view: GraphView, name: str) -> bool:
    return name in view.producer and view.producer[name].op_type in _QUANTISERS


@dataclass
class _Writer:
    view: GraphView
    fixed: Collection[str]
    wide: set[str]
    memory: set[str]
    narrow: Narrow
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    casts: dict[tuple[str, bool], str] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        for node in self.view.nodes:
            self._write(node)
        graph = self.view.model.graph
        arrays = {name: np.asarray(value, order="C") for name, value in self.constants.items()}
        model = onnx.ModelProto()
        model.CopyFrom(self.view.model)
        model.graph.CopyFrom(
            helper.make_graph(
                self.nodes,
                graph.name,
                [self._typed(value) for value in graph.input],
                [self._typed(value) for value in graph.output],
                [numpy_helper.from_array(array, name) for name, array in arrays.items()],
            )
        )
        if self.narrow is not FLOAT16:
            model.opset_import[0].version = BFLOAT16_OPSET
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)

    def _typed(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(value)
        if value.name in self.memory:
            copy.type.tensor_type.elem_type = self.narrow.element
        return copy

    def _type(self, half: bool) -> int:
        return self.narrow.element if half else TensorProto.FLOAT

    def _is_half(self, name: str) -> bool:
        return self.view.is_float(name) and name not in self.wide

    def _computes_half(self, node: onnx.NodeProto) -> bool:
        """Whether the node computes in float16 (its result may still be cast for its readers)."""
        if node.op_type in _QUANTISERS or node.name in self.fixed:
            return False
        outputs = [name for name in node.output if name and self.view.is_float(name)]
        if not outputs:  # comparisons and choices: in the type of what they read
            floats = [n for n in node.input if self.view.is_float(n) and n not in self.view.constants]
            return bool(floats) and all(self._is_half(name) for name in floats)
        if not all(self._is_half(name) for name in outputs):
            return False
        # A sum or a norm of a value that is too large for float16 has to read it in float32.
        follows = node.op_type in (*_PRODUCTS, *_FOLLOWERS, "Cast")
        return follows or not any(self._kept_for_size(name) for name in node.input)

    def _kept_for_size(self, name: str) -> bool:
        return name in self.wide and name in self.view.producer and not _is_quantiser(self.view, name)

    def _write(self, node: onnx.NodeProto) -> None:
        half = self._computes_half(node)
        if not half and node.op_type == "MatMul":
            self._product_without_gemm(node)
            return
        if half and node.op_type == "HardSwish" and self.narrow is not FLOAT16:
            self._hard_swish(node)
            return
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._read(name, half, node) for name in node.input]
        if node.op_type == "Cast" and self.view.is_float(node.output[0]):
            del copy.attribute[:]
            copy.attribute.append(helper.make_attribute("to", self._type(half)))
        self.nodes.append(copy)
        for position, name in enumerate(node.output):
            if name and self.view.is_float(name) and self._is_half(name) != half:
                # The readers expect the other type: the node's own result gets another name.
                copy = self.nodes[-1]
                copy.output[position] = f"{name}/float32"
                self._cast(f"{name}/float32", name, half=True)

    def _read(self, name: str, half: bool, node: onnx.NodeProto) -> str:
        if name in self.view.constants and name not in self.view.producer:
            return self._constant(name, half, node)
        if not name or not self.view.is_float(name) or self._is_half(name) == half:
            return name
        if (name, half) not in self.casts:
            self.casts[name, half] = self._cast(
                name, f"{name}/{self.narrow.word if half else 'float32'}", half
            )
        return self.casts[name, half]

    def _constant(self, name: str, half: bool, node: onnx.NodeProto) -> str:
        value = self.view.constants[name]
        if not self.view.is_float(name):
            self.constants[name] = value
            return name
        if not half:
            shared = any(self._computes_half(reader) for reader in self.view.readers[name])
            own_name = f"{name}/float32" if shared else name
            self.constants[own_name] = value
            return own_name
        if self.narrow is FLOAT16 and not peak(value) <= LARGEST:
            raise UserError(_overflow(node, name, peak(value)))
        self.constants[name] = value.astype(self.narrow.dtype)
        return name

    def _cast(self, source: str, target: str, half: bool) -> str:
        self.nodes.append(
            helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=self._type(half))
        )
        return target

    def _product_without_gemm(self, node: onnx.NodeProto) -> None:
        """A float32 product as Mul and ReduceSum: cards before Ampere have no float32 matrix product.

        A[…, M, K]·B[…, K, N] = Σ_K A[…, M, K, 1]·B[…, 1, K, N]. Only the decoding's small ones are float32.
        """
        place = node.output[0]
        left, right = (self._read(name, False, node) for name in node.input)
        left = self._op("Unsqueeze", [left, self._axis(f"{place}/last_axis", -1)], f"{place}/left")
        if len(self.view.shapes[node.input[1]]) > 2:
            right = self._op("Unsqueeze", [right, self._axis(f"{place}/rows_axis", -3)], f"{place}/right")
        products = self._op("Mul", [left, right], f"{place}/products")
        axis = self._axis(f"{place}/inner_axis", -2)
        half = self._is_half(place)
        result = self._op("ReduceSum", [products, axis], f"{place}/float32" if half else place, keepdims=0)
        if half:
            self._cast(result, place, half=True)

    def _hard_swish(self, node: onnx.NodeProto) -> None:
        """x · clip(x/6 + 1/2, 0, 1): TensorRT's HardSwish knows no bfloat16."""
        value, place = self._read(node.input[0], True, node), node.output[0]
        gate = self._op("HardSigmoid", [value], f"{place}/gate", alpha=1 / 6, beta=0.5)
        self.nodes.append(helper.make_node("Mul", [value, gate], [place], name=node.name))

    def _axis(self, name: str, value: int) -> str:
        self.constants[name] = np.array([value], np.int64)
        return name

    def _op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
