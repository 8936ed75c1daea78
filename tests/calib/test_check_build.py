"""Builds without a GPU, read back from TensorRT's own listing."""

import json

import pytest

from jntrt.calib.check_build import build, count_attentions, read_layers
from jntrt.calib.cli import app
from jntrt.calib.precisions.candidate import make_candidate
from jntrt.runtime.command.app import run
from jntrt.runtime.engines.graph.onnx_bytes import read_nodes

from .precisions.test_int8 import ranges_of
from .tiny_tracker import tiny_models, tiny_recipe

LISTING = """Layers:
Name: _gemm_mha_v2_myl0_5, LayerType: kgen, Inputs: [ { Name: a, Dimensions: [1,2], Datatype: Half, Format: x }], Constants: [], Outputs: [ { Name: b, Datatype: Half }], Metadata: [ONNX Layer: blocks.0/attn/scores][ONNX Layer: blocks.0/attn/softmax]
Name: x_myl0_6, LayerType: gemm, Inputs: [ { Name: c, Datatype: Int8, Format: x }], Constants: [ { Name: d, Datatype: Int8 }], Outputs: [ { Name: e, Datatype: Half }], Metadata: [ONNX Layer: blocks.0/attn/proj/matmul]
"""  # noqa: E501


def test_the_listing_is_read():
    attention, product = read_layers(LISTING)
    assert attention.name == "_gemm_mha_v2_myl0_5"
    assert attention.nodes == {"blocks.0/attn/scores", "blocks.0/attn/softmax"}
    assert product.kind == "gemm"
    assert product.reads == {"Int8"}
    assert product.nodes == {"blocks.0/attn/proj/matmul"}


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-fp16"])
@pytest.mark.parametrize("tokens", ["center", "box"])
def test_attentions_are_those_that_weigh_values(precision, tokens):
    models = tiny_models(tiny_recipe(template_tokens=tokens))
    track = make_candidate(precision, models, {}, ranges_of(models)[0]).models.track
    # The softmaxes of the candidate elimination and of the head's distributions are none.
    assert count_attentions(read_nodes(track.SerializeToString())) == 4


@pytest.mark.parametrize("precision", ["fp16", "int8-fp16"])
def test_a_tiny_network_builds_for_turing_with_its_attentions_fused(precision):
    pytest.importorskip("tensorrt_rtx")
    models = tiny_models(tiny_recipe())
    candidate = make_candidate(precision, models, {}, ranges_of(models)[0])
    made = build(candidate.models.track.SerializeToString(), precision, "75")
    assert made.failure is None
    assert made.attentions == made.attentions_total == 4
    assert made.megabytes > 0
    outside = [name for name in made.outside if name.startswith("blocks.") and "/ce/" not in name]
    assert not outside


def test_float32_does_not_build_for_turing_and_says_why():
    pytest.importorskip("tensorrt_rtx")
    models = tiny_models(tiny_recipe())
    made = build(models.track.SerializeToString(), "fp32", "75")
    assert made.failure is not None
    assert "FP32 GEMM is not supported" in made.failure


def test_the_command(bundle, capsys):
    pytest.importorskip("tensorrt_rtx")
    assert run(app, ["check-build", str(bundle.path), "--sm", "89", "--precision", "fp32", "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert made["failure"] is None
    assert made["architecture"] == "89"
    assert run(app, ["check-build", str(bundle.path), "--sm", "70"]) == 2
    assert "--sm 70: TensorRT-RTX builds for 75, 80, 86, 89, 120, 121" in capsys.readouterr().err
