"""float16 graphs: what stays float32, what must not, and overflow."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from jntrt.calib.graph.emulate import Emulator
from jntrt.calib.graph.view import GraphView
from jntrt.calib.precisions.fp16 import LARGEST, float32_places, to_float16
from jntrt.runtime.errors import UserError

from ..tiny_tracker import feeds, random_weights, tiny_models, tiny_recipe

FLOAT16_PLACES = ("/attn/", "/mlp/", "/norm", "search_embed", "head/conv1", "conv2", "conv5", "quality/fc1")

# Products that read what is float32 for a reason: the target's box, the statistics of the distributions.
CAST_BEFORE = ("target_token_embed/fc1/matmul", "head/quality/fc1/matmul")


def halves(models, peaks=None):
    return tuple(to_float16(m, peaks, models.memory) for m in (models.template, models.track))


@pytest.mark.parametrize("head", ["center", "distribution"])
@pytest.mark.parametrize("tokens", ["center", "box"])
def test_boxes_stay_where_they_were(head, tokens):
    models = tiny_models(tiny_recipe(head, template_tokens=tokens), batch=2)
    template, track = halves(models)
    inputs, search = feeds(models)
    exact = Emulator(models.track).run({**search, **Emulator(models.template).run(inputs)})
    rounded = Emulator(track).run({**search, **Emulator(template).run(inputs)}, check_finite=True)
    np.testing.assert_allclose(rounded["box"], exact["box"], atol=4e-3)
    np.testing.assert_allclose(rounded["score"], exact["score"], atol=4e-3)
    assert not np.array_equal(rounded["score"], exact["score"])


@pytest.mark.parametrize("head", ["center", "distribution"])
def test_what_decides_stays_float32_and_nothing_else(head):
    models = tiny_models(tiny_recipe(head))
    _, track = halves(models)
    places = set(float32_places(track))
    for must in ("blocks.1/ce/softmax", "blocks.1/ce/similarity", "head/response", "head/score_map", "score"):
        assert must in places
    assert not [place for place in places if any(part in place for part in FLOAT16_PLACES)]
    types = {value.name: value.type.tensor_type.elem_type for value in track.graph.output}
    assert types == {"box": TensorProto.FLOAT, "score": TensorProto.FLOAT}


def test_no_product_is_float32_or_stands_between_casts():
    models = tiny_models(tiny_recipe(), batch=1)
    for model in halves(models):
        view = GraphView(model)
        for node in view.nodes:
            if node.op_type in ("MatMul", "Conv"):
                assert {view.types[name] for name in node.input} == {TensorProto.FLOAT16}
                makers = [view.producer[n].op_type for n in node.input if n in view.producer]
                # Only what was computed in float32 for a reason may be cast in front of a product.
                assert "Cast" not in makers or node.name in CAST_BEFORE
        norms = [node for node in view.nodes if node.op_type == "LayerNormalization"]
        assert norms
        assert {view.types[node.input[0]] for node in norms} == {TensorProto.FLOAT16}


def test_a_weight_beyond_float16_is_an_error_with_its_name():
    recipe = tiny_recipe()
    weights = random_weights(recipe)
    weights["backbone.blocks.3.mlp.fc2.weight"][3, 5] = 70000.0
    models = tiny_models(recipe, weights=weights)
    with pytest.raises(UserError, match=r"blocks\.3/mlp/fc2.* overflows in float16: 7e\+04"):
        halves(models)


def test_a_value_near_the_end_stays_float32_and_its_norm_reads_it():
    models = tiny_models(tiny_recipe())
    _, track = halves(models, {"blocks.0/mlp": 30000.0})
    view = GraphView(track)
    assert view.types["blocks.0/mlp"] == TensorProto.FLOAT
    norm = next(node for node in view.nodes if node.name == "blocks.1/norm1")
    assert view.types[norm.input[0]] == TensorProto.FLOAT
    products = [node for node in view.nodes if node.op_type == "MatMul"]
    assert {view.types[name] for node in products for name in node.input} == {TensorProto.FLOAT16}


def test_a_large_residual_survives():
    """A residual stream beyond float16 in one channel: wrong without the peaks, right with them."""
    recipe = tiny_recipe(eliminate=False)
    weights = random_weights(recipe)
    weights["backbone.blocks.1.mlp.fc2.bias"][7] = 60000.0
    weights["backbone.blocks.2.mlp.fc2.bias"][7] = 30000.0
    models = tiny_models(recipe, weights=weights)
    inputs, search = feeds(models)
    memory = Emulator(models.template).run(inputs)
    names = [n for node in models.track.graph.node for n in node.output if n.endswith("/mlp")]
    names += ["blocks.2/attn", "blocks.3/attn"]
    values = Emulator(models.track).run({**search, **memory}, [*names, "box"])
    peaks = {name: float(np.abs(values[name]).max()) for name in names}
    assert max(peaks.values()) > LARGEST
    template, naive = halves(models)
    half_memory = Emulator(template).run(inputs)
    with pytest.raises(UserError, match="overflows"):
        Emulator(naive).run({**search, **half_memory}, check_finite=True)
    _, careful = halves(models, peaks)
    outputs = Emulator(careful).run({**search, **half_memory}, check_finite=True)
    np.testing.assert_allclose(outputs["box"], values["box"], atol=0.02)


def test_a_product_that_overflows_is_an_error_with_its_name():
    models = tiny_models(tiny_recipe())
    with pytest.raises(UserError, match=r"blocks\.2/mlp/fc2/matmul overflows in float16: 1e\+05"):
        halves(models, {"blocks.2/mlp/fc2/matmul": 1e5})


def test_the_graph_is_checked_opset_20_and_its_memory_float16():
    models = tiny_models(tiny_recipe())
    template, track = halves(models)
    for model in (template, track):
        onnx.checker.check_model(model, full_check=True)
        assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
    types = {value.name: value.type.tensor_type.elem_type for value in track.graph.input}
    assert {types[name] for name in models.memory} == {TensorProto.FLOAT16}
    assert types["search"] == TensorProto.UINT8
