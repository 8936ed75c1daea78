"""The executor that rounds: equal to ONNX Runtime in float32, and different where float16 is."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from jntrt.calib.graph.emulate import Emulation, Emulator
from jntrt.calib.precisions.fp16 import to_float16
from jntrt.runtime.errors import UserError

from ..tiny_tracker import feeds, tiny_models, tiny_recipe


def run_ort(model, inputs):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


@pytest.mark.parametrize("head", ["center", "corner", "distribution"])
@pytest.mark.parametrize("eliminate", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_float32_equals_onnx_runtime(head, eliminate, batch):
    models = tiny_models(tiny_recipe(head, eliminate), batch)
    template, search = feeds(models)
    memory = Emulator(models.template, threads=1).run(template)
    expected = run_ort(models.template, template)
    for name, value in memory.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)
    outputs = Emulator(models.track).run({**search, **memory})
    expected = run_ort(models.track, {**search, **memory})
    for name, value in outputs.items():
        np.testing.assert_allclose(value, expected[name], atol=2e-4)


def test_every_value_between_nodes_is_rounded():
    models = tiny_models(tiny_recipe())
    template, search = feeds(models)
    half = to_float16(models.template, memory=models.memory)
    memory = Emulator(half).run(template)
    assert {value.dtype for value in memory.values()} == {np.dtype(np.float16)}
    track = to_float16(models.track, memory=models.memory)
    interior = Emulator(track).run({**search, **memory}, ["blocks.1/mlp/fc1", "blocks.1/ce/similarity"])
    assert interior["blocks.1/mlp/fc1"].dtype == np.float16
    assert interior["blocks.1/ce/similarity"].dtype == np.float32


def test_a_sum_that_float16_cannot_hold_is_lost():
    # 2048 + 1 is 2048 in float16: an executor that keeps float32 inside would give 1 at the end.
    nodes = [
        helper.make_node("Add", ["x", "one"], ["y"], name="sum"),
        helper.make_node("Add", ["y", "minus"], ["z"], name="difference"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT16, [1])],
        [
            onnx.numpy_helper.from_array(np.full(1, value, np.float16), name)
            for name, value in (("one", 1), ("minus", -2048))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    assert Emulator(model).run({"x": np.full(1, 2048, np.float16)})["z"][0] == 0


def test_overflow_names_the_layer():
    nodes = [helper.make_node("Mul", ["x", "x"], ["y"], name="blocks.7/mlp/fc2")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    with pytest.raises(UserError, match=r"blocks\.7/mlp/fc2 overflows in float16"):
        Emulator(model).run({"x": np.full(1, 300, np.float16)}, check_finite=True)


def test_an_operator_of_others_is_refused():
    node = helper.make_node("Einsum", ["x"], ["y"], equation="i->i")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]))
    with pytest.raises(UserError, match="does not know Einsum"):
        Emulator(model)


def test_as_a_backend(tmp_path):
    models = tiny_models(tiny_recipe())
    onnx.save(models.template, tmp_path / "template.onnx")
    backend = Emulation(tmp_path / "template.onnx", 1)
    assert set(backend.run(feeds(models)[0])) == models.memory
    assert backend.describe()["backend"] == "emulation"
