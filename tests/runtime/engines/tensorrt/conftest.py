"""A graph small enough to build in a second, with the inputs and outputs of a track graph."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def build_small_graph(seed: int = 0, dtype: type = np.float16) -> bytes:
    """search 1×32×32×3 uint8 and memory 1×8 to box 1×4 and score 1, in `dtype` inside."""
    rng = np.random.default_rng(seed)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = {
        "patches": rng.normal(size=(3072, 16)) / 3072,
        "memory_weight": rng.normal(size=(8, 16)),
        "box_weight": rng.normal(size=(16, 4)),
        "score_weight": rng.normal(size=(16, 1)),
    }
    nodes = [
        helper.make_node("Cast", ["search"], ["pixels"], to=element),
        helper.make_node("Reshape", ["pixels", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "patches"], ["features"]),
        helper.make_node("MatMul", ["memory", "memory_weight"], ["remembered"]),
        helper.make_node("Add", ["features", "remembered"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "box_weight"], ["box_logits"]),
        helper.make_node("Sigmoid", ["box_logits"], ["box_inside"]),
        helper.make_node("Cast", ["box_inside"], ["box"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["hidden", "score_weight"], ["score_logits"]),
        helper.make_node("Sigmoid", ["score_logits"], ["score_inside"]),
        helper.make_node("Reshape", ["score_inside", "one"], ["score_flat"]),
        helper.make_node("Cast", ["score_flat"], ["score"], to=TensorProto.FLOAT),
    ]
    constants = [numpy_helper.from_array(value.astype(dtype), name) for name, value in weights.items()]
    constants += [
        numpy_helper.from_array(np.array([1, 3072], np.int64), "flat"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("search", TensorProto.UINT8, [1, 32, 32, 3]),
            helper.make_tensor_value_info("memory", element, [1, 8]),
        ],
        [
            helper.make_tensor_value_info("box", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [1]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def small_graph() -> Callable[..., bytes]:
    return build_small_graph
