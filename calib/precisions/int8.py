"""Explicit int8: a Q/DQ pair before each chosen Linear of a float32 graph (design rule 7).

Symmetric, zero point 0, int8 on both sides; one scale per activation tensor, one per output channel of a
weight; biases stay as they are. Scales are float32 in every flavour. `to_float16` of the result is the
flavour for TensorRT: it writes Cast → Q → DQ → Cast around the float32 scales.

A convolution's result is quantised too, after its ReLU where it has one, and all its readers take the pair's
value: ONNX Runtime has an int8 kernel for a convolution only where its result is int8. Other activations
(HardSwish, Clip) and sums then compute in float between two pairs.

All activations share their zero point's initializer, so that the ONNX Runtime backend can turn them into
uint8 in one place (`ZERO_POINT`; values after a ReLU have their own, `RELU_ZERO_POINT`: with it ONNX Runtime
drops the ReLU and runs chains of convolutions in int8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from jntrt.calib.graph.layers import Layer, find_layers
from jntrt.calib.graph.roles import replace_int8
from jntrt.calib.graph.view import Array, GraphView, attributes
from jntrt.runtime.engines.graph.int8_graph import RELU_ZERO_POINT, WEIGHT_BITS, ZERO_POINT
from jntrt.runtime.errors import UserError

LEVEL_SUFFIX = "/int8"  # of a quantised value's name
LEVELS = 127  # of an activation, on each side of 0


def split_branches(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, where a convolution whose ReLU is split between branches is one convolution for each.

    The head's first convolution serves all branches at once where no candidate is eliminated. In int8 its
    result is quantised for the next one, and engines only fuse that when nothing stands between the ReLU and
    the Q.
    """
    view = GraphView(model)
    chains = {
        split.name: chain
        for split in view.nodes
        if split.op_type == "Split" and (chain := _branched_convolution(view, split))
    }
    gone = {node.name for chain in chains.values() for node in chain}
    constants = dict(view.constants)
    nodes: list[onnx.NodeProto] = []
    for node in view.nodes:
        if node.name in chains:
            nodes += _branches(view, node, chains[node.name][0], constants)
        elif node.name not in gone:
            nodes.append(node)
    if not chains:
        return model
    result = _with_graph(model, nodes, constants, view)
    branches = {split.name: list(split.output) for split in view.nodes if split.name in chains}
    replace_int8(result, {chain[0].name: branches[name] for name, chain in chains.items()})
    return result


def quantised_values(view: GraphView, layers: Iterable[Layer]) -> list[str]:
    """Values that get a pair when these layers are int8, in the graph's order."""
    layers = list(layers)
    wanted = {layer.activation for layer in layers} | _convolution_ends(view, layers)
    made = (name for node in view.nodes for name in node.output)
    return [name for name in (*view.inputs, *made) if name in wanted]


def quantise(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    keep: Iterable[str] = (),
    weight_bits: int = 8,
) -> onnx.ModelProto:
    """`model` with int8 Linears and convolutions.

    ranges: largest magnitude to represent of each activation that a Linear reads, by value name (what
    calibration gives). keep: layers that stay as they are. weight_bits: 8, or 7 for processors whose int8
    products saturate. Raises UserError when a range is missing or is not a positive number.
    """
    view = GraphView(model)
    kept = set(keep)
    chosen = [layer for layer in find_layers(view) if layer.quantisable and layer.name not in kept]
    unknown = kept - {layer.name for layer in find_layers(view)}
    if unknown:
        raise UserError(
            f"--keep {sorted(unknown)[0]}: no such layer; calibration.json lists them, such as"
            f" {chosen[0].name if chosen else 'none'}"
        )
    by_node, ends = {layer.node: layer for layer in chosen}, _convolution_ends(view, chosen)
    result = _Quantiser(view, by_node, ends, ranges, weight_bits).model()
    if weight_bits < 8:
        helper.set_model_props(result, {WEIGHT_BITS: str(weight_bits)})
    return result


def quantise_weight(weight: Array, axis: int, bits: int = 8) -> tuple[Array, Array]:
    """int8 weights, and float32 scales for each output channel (`axis`); a channel of zeros has scale 1."""
    top = 2 ** (bits - 1) - 1
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others)
    scale = np.where(largest > 0, largest / top, 1).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    levels = np.clip(np.rint(weight / scale.reshape(shape)), -top, top)
    return levels.astype(np.int8), scale


@dataclass
class _Quantiser:
    view: GraphView
    layers: dict[str, Layer]
    ends: set[str]
    ranges: Mapping[str, float]
    weight_bits: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        self.constants = dict(self.view.constants)
        for node in self.view.nodes:
            layer = self.layers.get(node.name)
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for position, name in enumerate(node.input):
                if name in self.ends or (layer is not None and position == 0):
                    copy.input[position] = self._activation(name)
            if layer is not None:
                copy.input[1] = self._weight(layer)
            self.nodes.append(copy)
        return _with_graph(self.view.model, self.nodes, self.constants, self.view)

    def _activation(self, name: str) -> str:
        if name not in self.pairs:
            scale = f"{name}/scale"
            self.constants[scale] = np.array(self._range(name) / LEVELS, np.float32)
            producer = self.view.producer.get(name)
            after_relu = producer is not None and producer.op_type == "Relu"
            zero = RELU_ZERO_POINT if after_relu else ZERO_POINT
            self.constants[zero] = np.array(0, np.int8)
            self.pairs[name] = self._pair(name, scale, zero)
        return self.pairs[name]

    def _pair(self, name: str, scale: str, zero: str) -> str:
        levels, again = f"{name}{LEVEL_SUFFIX}", f"{name}/from_int8"
        self.nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [levels], name=levels))
        self.nodes.append(helper.make_node("DequantizeLinear", [levels, scale, zero], [again], name=again))
        return again

    def _range(self, name: str) -> float:
        value = self.ranges.get(name)
        if value is None:
            raise UserError(f"the ranges have none for {name}: calibrate this bundle again")
        if not np.isfinite(value) or value <= 0:
            raise UserError(f"the range of {name} is {value:g}: it must be a number above 0; calibrate again")
        return float(value)

    def _weight(self, layer: Layer) -> str:
        name = f"{layer.weight}/from_int8"
        if f"{layer.weight}{LEVEL_SUFFIX}" not in self.constants:
            levels, scale = quantise_weight(self.view.constants[layer.weight], layer.axis, self.weight_bits)
            names = [f"{layer.weight}{LEVEL_SUFFIX}", f"{layer.weight}/scale"]
            self.constants |= dict(zip(names, (levels, scale), strict=True))
            self.nodes.append(helper.make_node("DequantizeLinear", names, [name], name=name, axis=layer.axis))
        return name


def _convolution_ends(view: GraphView, layers: Iterable[Layer]) -> set[str]:
    """What the convolutions among the layers make, after the ReLU where that alone reads it.

    A graph's output is none: it keeps its type.
    """
    ends = set()
    for layer in layers:
        if layer.kind == "Conv":
            end = layer.result
            readers = view.readers.get(end, [])
            if len(readers) == 1 and readers[0].op_type == "Relu":
                end = readers[0].output[0]
            ends.add(end)
    return ends - set(view.outputs)


def _branched_convolution(
    view: GraphView, split: onnx.NodeProto
) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    relu = view.producer.get(split.input[0])
    if relu is None or relu.op_type != "Relu" or len(view.readers[split.input[0]]) > 1:
        return None
    convolution = view.producer.get(relu.input[0])
    if convolution is None or convolution.op_type != "Conv" or len(view.readers[relu.input[0]]) > 1:
        return None
    return (convolution, relu) if attributes(split).get("axis", 0) == 1 else None


def _branches(
    view: GraphView, split: onnx.NodeProto, convolution: onnx.NodeProto, constants: dict[str, Array]
) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []
    bounds = np.cumsum(view.constants[split.input[1]])[:-1]
    weights, biases = (np.split(view.constants[name], bounds) for name in convolution.input[1:3])
    for name, weight, bias in zip(split.output, weights, biases, strict=True):
        constants |= {f"{name}/weight": weight, f"{name}/bias": bias}
        copy = onnx.NodeProto()
        copy.CopyFrom(convolution)
        copy.name = name
        copy.input[:] = [convolution.input[0], f"{name}/weight", f"{name}/bias"]
        copy.output[:] = [f"{name}/sum"]
        nodes += [copy, helper.make_node("Relu", [f"{name}/sum"], [name], name=f"{name}/relu")]
    return nodes


def _with_graph(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Mapping[str, Array], view: GraphView
) -> onnx.ModelProto:
    """`model` with other nodes; constants that nobody reads any more are dropped."""
    read = {name for node in nodes for name in node.input}
    made = {name for node in nodes for name in node.output}
    initializers = [
        numpy_helper.from_array(np.asarray(value, order="C"), name)
        for name, value in constants.items()
        if name in read and name not in made
    ]
    graph = model.graph
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.CopyFrom(helper.make_graph(nodes, graph.name, graph.input, graph.output, initializers))
    onnx.checker.check_model(result)
    result = onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    # Levels have no recorded type: the ONNX Runtime backend makes them uint8 by their zero point alone.
    typed = [value for value in result.graph.value_info if not value.name.endswith(LEVEL_SUFFIX)]
    del result.graph.value_info[:]
    result.graph.value_info.extend(typed)
    return result
