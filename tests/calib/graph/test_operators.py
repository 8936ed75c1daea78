"""Every operator of the emulation gives what ONNX Runtime gives in float32."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from jntrt.calib.graph.emulate import Emulator
from jntrt.calib.graph.operators import OPERATORS

RNG = np.random.default_rng(2)
IMAGE = RNG.normal(0, 3, (2, 6, 9, 8)).astype(np.float32)
OTHER = RNG.normal(0, 3, (2, 6, 9, 8)).astype(np.float32)
ROWS = RNG.normal(0, 2, (2, 5, 6)).astype(np.float32)
POSITIVE = np.abs(ROWS) + np.float32(0.1)
VECTOR = RNG.normal(0, 1, 6).astype(np.float32)
LEVELS = RNG.integers(-128, 128, (2, 6), np.int8)


def kernel(outputs, inputs, side):
    return RNG.normal(0, 1, (outputs, inputs, side, side)).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def number(value):
    return np.array(value, np.float32)


# operator, inputs, attributes; the number of outputs where it is not one
CASES = [
    ("Abs", [IMAGE], {}),
    ("Add", [ROWS, VECTOR], {}),
    ("ArgMax", [ROWS], {"axis": 1, "keepdims": 0}),
    ("ArgMax", [ROWS], {"axis": 2, "keepdims": 1}),
    ("Cast", [IMAGE], {"to": TensorProto.INT32}),
    ("Clip", [IMAGE, number(0), number(6)], {}),
    ("Concat", [IMAGE, OTHER], {"axis": 1}),
    ("Conv", [IMAGE, kernel(4, 6, 3), VECTOR[:4]], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("Conv", [IMAGE, kernel(6, 1, 3)], {"group": 6, "pads": [1, 0, 2, 1]}),
    ("Conv", [IMAGE, kernel(6, 2, 3)], {"group": 3, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ("Conv", [IMAGE, kernel(6, 1, 5)], {"group": 6, "strides": [2, 1], "pads": [2, 2, 2, 2]}),
    ("DequantizeLinear", [LEVELS, np.abs(VECTOR[:6]), np.zeros(6, np.int8)], {"axis": 1}),
    ("DequantizeLinear", [LEVELS, number(0.03), np.array(5, np.int8)], {}),
    ("Div", [ROWS, POSITIVE], {}),
    ("Div", [ints(7, -7, 9), ints(2, 2, -4)], {}),
    ("Equal", [ints(1, 2, 3), ints(1, 5, 3)], {}),
    ("Exp", [ROWS], {}),
    ("Gather", [ROWS, ints(4, 0, -1)], {"axis": 1}),
    ("Gelu", [ROWS], {}),
    ("GlobalAveragePool", [IMAGE], {}),
    ("HardSigmoid", [IMAGE], {}),
    ("HardSigmoid", [IMAGE], {"alpha": 1 / 6, "beta": 0.5}),
    ("HardSwish", [IMAGE], {}),
    ("LayerNormalization", [ROWS, VECTOR, VECTOR], {"axis": -1, "epsilon": 1e-6}),
    ("MatMul", [ROWS, np.ascontiguousarray(POSITIVE.transpose(0, 2, 1))], {}),
    ("Max", [IMAGE, OTHER, number(0.5)], {}),
    ("MaxPool", [IMAGE - 9], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2]}),
    ("Min", [IMAGE, OTHER], {}),
    ("Mul", [IMAGE, OTHER[:, :, :1, :1]], {}),
    ("Neg", [ROWS], {}),
    ("QuantizeLinear", [ROWS, number(0.05), np.array(0, np.int8)], {}),
    ("QuantizeLinear", [IMAGE[0], np.abs(VECTOR) + 0.1, np.full(6, 128, np.uint8)], {"axis": 0}),
    ("ReduceMax", [ROWS, ints(2)], {"keepdims": 0}),
    ("ReduceMean", [IMAGE, ints(2, 3)], {}),
    ("ReduceMean", [IMAGE], {"keepdims": 0}),
    ("ReduceMin", [ROWS, ints(1)], {}),
    ("ReduceProd", [ROWS, ints(2)], {"keepdims": 0}),
    ("ReduceSum", [ROWS, ints(1)], {"keepdims": 0}),
    ("Relu", [ROWS], {}),
    ("Reshape", [ROWS, ints(0, -1)], {}),
    ("Sigmoid", [ROWS], {}),
    ("Slice", [IMAGE, ints(1, -5), ints(4, 1000), ints(2, 3)], {}),
    ("Slice", [IMAGE, ints(0), ints(9), ints(2), ints(2)], {}),
    ("Softmax", [ROWS], {"axis": 1}),
    ("Split", [ROWS, ints(2, 4)], {"axis": 2}, 2),
    ("Split", [ROWS], {"axis": 2, "num_outputs": 3}, 3),
    ("Sqrt", [POSITIVE], {}),
    ("Squeeze", [IMAGE[:1, :, :1], ints(0, 2)], {}),
    ("Sub", [ROWS, VECTOR], {}),
    ("TopK", [ROWS, ints(3)], {"axis": -1}, 2),
    ("Transpose", [IMAGE], {"perm": [0, 2, 3, 1]}),
    ("Unsqueeze", [ROWS, ints(0, -1)], {}),
    ("Where", [ROWS > 0, ROWS, POSITIVE], {}),
]


def _info(name, array):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def test_every_operator_has_a_case():
    assert {case[0] for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_it_is_onnx_runtimes(case):
    kind, inputs, attributes, *rest = case
    outputs = [f"y{i}" for i in range(rest[0] if rest else 1)]
    # Shapes, axes and bounds are constants, as our graphs have them.
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(kind, names, outputs, name="node", **attributes)
    moving = [i for i, x in enumerate(inputs) if i == 0 or (x.dtype == np.float32 and x.ndim > 2)]
    graph = helper.make_graph(
        [node],
        "one",
        [_info(names[i], inputs[i]) for i in moving],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(x, names[i]) for i, x in enumerate(inputs) if i not in moving],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    feeds = {names[i]: inputs[i] for i in moving}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, expected in zip(outputs, session.run(outputs, feeds), strict=True):
        found = Emulator(model).run(feeds, outputs)[name]
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
