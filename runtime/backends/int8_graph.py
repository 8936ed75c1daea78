"""int8 graphs in ONNX Runtime: what its CPU kernels want, and whether they got it.

Works on the file's bytes, since the runtime does without the onnx package: a reader of the few protobuf
fields it needs, and a change of two one-byte tensors in place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jntrt.runtime.errors import UserError

# The names that calib.int8 gives to the zero points that all activations share.
ZERO_POINT = "int8/zero_point"
RELU_ZERO_POINT = "int8/relu_zero_point"

INT8_KERNELS = ("MatMulIntegerToFloat", "QLinearConv", "QLinearMatMul", "QGemm")
FLOAT_KERNELS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv", "NhwcFusedConv")

WEIGHT_BITS = "int8 weight bits"  # metadata key, where the weights do not use all 8

_GRAPH, _METADATA, _NODE = 7, 14, 1  # field numbers in ModelProto and GraphProto
_INPUT, _OUTPUT, _NAME, _OP_TYPE = 1, 2, 3, 4  # in NodeProto
_INT8, _UINT8 = 3, 2  # TensorProto.DataType


@dataclass(frozen=True)
class Node:
    """One node of a graph, without its attributes."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_nodes(model: bytes) -> list[Node]:
    """The nodes of a serialised ONNX model. Raises UserError when the bytes are no protobuf message."""
    nodes = []
    for number, graph in _fields(memoryview(model)):
        if number != _GRAPH:
            continue
        for inner, content in _fields(graph):
            if inner == _NODE:
                parts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [], _OP_TYPE: []}
                for field, value in _fields(content):
                    if field in parts:
                        parts[field].append(str(value, "utf-8", "replace"))
                name, op_type = "".join(parts[_NAME]), "".join(parts[_OP_TYPE])
                nodes.append(Node(op_type, name, tuple(parts[_INPUT]), tuple(parts[_OUTPUT])))
    return nodes


def quantised_layers(nodes: list[Node]) -> list[str]:
    """Names of the Linears and convolutions whose weights are int8."""
    made = {output: node.op_type for node in nodes for output in node.outputs}
    return [
        node.name
        for node in nodes
        if node.op_type in FLOAT_KERNELS and made.get(node.inputs[1]) == "DequantizeLinear"
    ]


def weight_bits(model: bytes) -> int:
    """Bits that the int8 weights use: 8, or fewer as the model's metadata say."""
    for number, entry in _fields(memoryview(model)):
        if number == _METADATA:
            pair = {field: str(value, "utf-8", "replace") for field, value in _fields(entry)}
            if pair.get(1) == WEIGHT_BITS and pair.get(2, "").isdecimal():
                return min(8, int(pair[2]))
    return 8


def unsigned_activations(model: bytes) -> bytes:
    """The model with uint8 activations in place of int8: the kernels of x86 processors are made for them.

    Zero point 0 becomes 128 and every level moves with it, so that scales and results are the same. After a
    ReLU it becomes 0: levels above 127 are then used where int8 would have clipped, and ONNX Runtime can drop
    the ReLU itself. A model without these zero points comes back as it is.
    """
    for name, zero in ((ZERO_POINT, 128), (RELU_ZERO_POINT, 0)):
        found = _zero_point(name, _INT8, 0)
        if model.count(found) > 1:
            raise UserError(f"the int8 graph has several constants named {name}: calibrate the bundle again")
        model = model.replace(found, _zero_point(name, _UINT8, zero))
    return model


def float_layers(wanted: list[str], optimised: bytes) -> list[str]:
    """Those of the `wanted` layers that ONNX Runtime's optimised graph computes in float."""
    nodes = read_nodes(optimised)
    left = quantised_layers(nodes)
    count = sum(node.op_type in INT8_KERNELS for node in nodes)
    if not left and count < len(wanted):
        return wanted[count:]
    return left


def _zero_point(name: str, data_type: int, value: int) -> bytes:
    """A scalar TensorProto as protobuf writes it: data_type (2), name (8), raw_data (9)."""
    text = name.encode()
    return bytes([0x10, data_type, 0x42, len(text)]) + text + bytes([0x4A, 1, value])


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the length-delimited fields of a protobuf message; others are skipped."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _, place = _varint(message, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            length, place = _varint(message, place)
            if place + length > len(message):
                raise UserError("the graph's file is damaged: export the bundle again")
            yield number, message[place : place + length]
            place += length
        else:
            raise UserError("the graph's file is damaged: export the bundle again")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place
    raise UserError("the graph's file is damaged: export the bundle again")
