"""bfloat16 graphs: for GPUs from Ampere on, where float16 is not the same tracker."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from jntrt.calib.check_build import build
from jntrt.calib.graph.emulate import Emulator
from jntrt.calib.graph.roles import roles_of
from jntrt.calib.graph.view import GraphView
from jntrt.calib.precisions.candidate import make_candidate
from jntrt.calib.precisions.fp16 import float32_places, to_bfloat16

from ..tiny_siamese import siamese_feeds, siamese_models
from ..tiny_tracker import feeds, random_weights, tiny_models, tiny_recipe


def rounded(models):
    return tuple(to_bfloat16(model, models.memory) for model in (models.template, models.track))


@pytest.mark.parametrize("head", ["center", "distribution"])
def test_boxes_stay_near(head):
    models = tiny_models(tiny_recipe(head, eliminate=False))
    template, track = rounded(models)
    inputs, search = feeds(models)
    exact = Emulator(models.track).run({**search, **Emulator(models.template).run(inputs)})
    found = Emulator(track).run({**search, **Emulator(template).run(inputs)}, check_finite=True)
    np.testing.assert_allclose(found["box"], exact["box"], atol=3e-2)
    np.testing.assert_allclose(found["score"], exact["score"], atol=3e-2)
    assert not np.array_equal(found["score"], exact["score"])


def test_a_convolutional_network():
    models = siamese_models()
    template, track = rounded(models)
    inputs, search = siamese_feeds()
    exact = Emulator(models.track).run({**search, **Emulator(models.template).run(inputs)})
    found = Emulator(track).run({**search, **Emulator(template).run(inputs)}, check_finite=True)
    np.testing.assert_allclose(found["score"], exact["score"], atol=3e-2)
    assert not np.array_equal(found["score"], exact["score"])


def test_what_decides_stays_float32():
    models = tiny_models(tiny_recipe())
    template, track = rounded(models)
    assert {"blocks.1/ce/softmax", "head/score_map", "score"} <= set(float32_places(track))
    ports = [*template.graph.output, *track.graph.input, *track.graph.output]
    types = {value.type.tensor_type.elem_type for value in ports}
    assert types == {TensorProto.FLOAT, TensorProto.UINT8}  # what NumPy has, memory too


@pytest.mark.parametrize("models", [lambda: tiny_models(tiny_recipe()), siamese_models])
def test_products_read_bfloat16(models):
    for model in rounded(models()):
        view, fixed = GraphView(model), roles_of(model).float32
        products = [n for n in view.nodes if n.op_type in ("MatMul", "Conv") and n.name not in fixed]
        assert products
        assert {view.types[name] for node in products for name in node.input} == {TensorProto.BFLOAT16}
        onnx.checker.check_model(model, full_check=True)


def test_what_overflows_float16_does_not():
    """A residual stream of which float16 has no number: the reason for bfloat16."""
    recipe = tiny_recipe(eliminate=False)
    weights = random_weights(recipe)
    weights["backbone.blocks.1.mlp.fc2.bias"][7] = 90000.0
    models = tiny_models(recipe, weights=weights)
    template, track = rounded(models)
    inputs, search = feeds(models)
    memory = Emulator(template).run(inputs, check_finite=True)
    assert np.isfinite(Emulator(track).run({**search, **memory}, check_finite=True)["box"]).all()


def test_a_convolutional_network_builds_too():
    """What TensorRT's parser does not take in bfloat16 (HardSwish) is written in operators that it does."""
    pytest.importorskip("tensorrt_rtx")
    models = siamese_models()
    assert "HardSwish" in {node.op_type for node in models.template.graph.node}
    made = build(rounded(models)[0].SerializeToString(), "bf16-gpu", "86")
    assert made.failure is None
    assert not made.outside


@pytest.mark.parametrize("architecture", ["86", "89"])
def test_it_builds_for_ampere_and_later(architecture):
    pytest.importorskip("tensorrt_rtx")
    candidate = make_candidate("bf16-gpu", tiny_models(tiny_recipe()), {}, {})
    made = build(candidate.models.track.SerializeToString(), "bf16-gpu", architecture)
    assert made.failure is None
    assert made.attentions == made.attentions_total == 4
    assert not [name for name in made.outside if name.startswith("blocks.") and "/ce/" not in name]
