"""int8 graphs in ONNX Runtime: what its CPU kernels want, and whether they got it.

Works on the file's bytes, since the runtime does without the onnx package: reading nodes, and a change of two
one-byte tensors in place.
"""

from jntrt.runtime.engines.graph.onnx_bytes import Node, fields, read_nodes
from jntrt.runtime.errors import UserError

# The names that calib.int8 gives to the zero points that all activations share.
ZERO_POINT = "int8/zero_point"
RELU_ZERO_POINT = "int8/relu_zero_point"

INT8_KERNELS = ("MatMulIntegerToFloat", "QLinearConv", "QLinearMatMul", "QGemm")
FLOAT_KERNELS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv", "NhwcFusedConv")

WEIGHT_BITS = "int8 weight bits"  # metadata key, where the weights do not use all 8

_METADATA = 14  # field number in ModelProto
_INT8, _UINT8 = 3, 2  # TensorProto.DataType


def quantised_layers(nodes: list[Node]) -> list[str]:
    """Names of the Linears and convolutions whose weights are int8."""
    made = {output for node in nodes for output in node.outputs}
    # Of constants alone: an activation that is read as int8 may also be a product's second factor.
    weights = {
        output
        for node in nodes
        if node.op_type == "DequantizeLinear" and node.inputs[0] not in made
        for output in node.outputs
    }
    return [
        node.name
        for node in nodes
        if node.op_type in FLOAT_KERNELS and any(name in weights for name in node.inputs[1:2])
    ]


def weight_bits(model: bytes) -> int:
    """Bits that the int8 weights use: 8, or fewer as the model's metadata say."""
    for number, entry in fields(memoryview(model)):
        if number == _METADATA:
            pair = {field: str(value, "utf-8", "replace") for field, value in fields(entry)}
            if pair.get(1) == WEIGHT_BITS and pair.get(2) in ("1", "2", "3", "4", "5", "6", "7"):
                return int(pair[2])
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
