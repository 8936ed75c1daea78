"""The checks of a graph: each rule refuses a graph broken on purpose; MACs; parity."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from jntrt.export.families.ostrack import family as ostrack
from jntrt.export.families.ostrack.fast.graphs import build_graphs
from jntrt.export.families.ostrack.plain.macs import plain_macs
from jntrt.export.families.ostrack.plain.network import ranking_gap
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.parity import parity
from jntrt.export.rules import check_graph, count_macs, graph_violations
from jntrt.export.samples import draw_samples
from jntrt.runtime.errors import UserError

from .families.ostrack.golden_networks import JN, OSTRACK, golden_case, plain_model

VIT_B = Recipe(
    family="ostrack",
    template_size=128,
    template_factor=2.0,
    search_size=256,
    search_factor=4.0,
    dim=768,
    depth=12,
    heads=12,
    mlp_dim=3072,
    ce_layers=(3, 6, 9),
    keep_ratio=(0.7, 0.7, 0.7),
)


def built(name: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    case = golden_case(name)
    return build_graphs(case.recipe, case.weights, len(case.template))


@pytest.mark.parametrize("name", [*OSTRACK, *JN, "corner"])
def test_built_graphs_keep_the_rules(name: str) -> None:
    template, track = built(name)
    check_graph(template)
    check_graph(track)
    assert [output.name for output in track.graph.output] == ["box", "score"]


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def allow(model: onnx.ModelProto, *operators: str) -> None:
    next(p for p in model.metadata_props if p.key == "jntrt.allowed").value = json.dumps(operators)


def _newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def _foreign_domain(model: onnx.ModelProto) -> None:
    node(model, "blocks.0/mlp/gelu").domain = "com.microsoft"


def _dynamic_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def _unknown_shape(model: onnx.ModelProto) -> None:
    """What the file says of shapes is not believed: a reshape to a computed shape has none."""
    shape = next(n for n in model.graph.node if n.op_type == "Reshape").input[1]
    for i, tensor in enumerate(model.graph.initializer):
        if tensor.name == shape:
            del model.graph.initializer[i]
            break
    model.graph.input.append(helper.make_tensor_value_info(shape, TensorProto.INT64, [5]))


def _external_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _external_constant(model: onnx.ModelProto) -> None:
    outside = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../../outside")
    model.graph.node.append(helper.make_node("Constant", [], ["constant"], name="constant", value=outside))


def _nonzero(model: onnx.ModelProto) -> None:
    node(model, "head/conv1/relu").op_type = "NonZero"


def _written_out_gelu(model: onnx.ModelProto) -> None:
    node(model, "blocks.2/mlp/gelu").op_type = "Erf"


def _reads_bytes(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("Transpose", ["search"], ["early"], name="early", perm=[0, 3, 1, 2])
    )
    model.graph.value_info.append(helper.make_tensor_value_info("early", TensorProto.UINT8, [1, 3, 192, 192]))


def _wide_index(model: onnx.ModelProto) -> None:
    node(model, "blocks.1/ce/stay").input[1] = "blocks.1/ce/kept"


def _second_reader(model: onnx.ModelProto) -> None:
    node(model, "blocks.3/attn/merge").input[0] = "blocks.3/attn/softmax"


def _sorted(model: onnx.ModelProto) -> None:
    ranking = next(n for n in model.graph.node if n.op_type == "TopK")
    next(a for a in ranking.attribute if a.name == "sorted").i = 1


def _nameless(model: onnx.ModelProto) -> None:
    node(model, "blocks.3/attn/scores").name = ""


def _twice(model: onnx.ModelProto) -> None:
    node(model, "blocks.3/attn/scores").name = "blocks.3/attn/values"


def _no_score_map(model: onnx.ModelProto) -> None:
    for n in model.graph.node:
        n.output[:] = ["map" if o == "head/score_map" else o for o in n.output]
    for info in model.graph.value_info:
        info.name = "map" if info.name == "head/score_map" else info.name


def _no_kept(model: onnx.ModelProto) -> None:
    for n in model.graph.node:
        n.output[:] = ["chosen" if o == "blocks.2/ce/kept" else o for o in n.output]
    for info in model.graph.value_info:
        info.name = "chosen" if info.name == "blocks.2/ce/kept" else info.name


def _nonzero_that_allows_itself(model: onnx.ModelProto) -> None:
    """A graph may say that it needs an Exp; of what engines cannot run it may not."""
    _nonzero(model)
    allow(model, "NonZero")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_newer_opset, "opsets are {'ai.onnx': 21}"),
        (_foreign_domain, "blocks.0/mlp/gelu is of domain com.microsoft"),
        (_foreign_domain, "shapes cannot be inferred"),
        (_dynamic_batch, "shapes are not static: search"),
        (_unknown_shape, "shapes are not static: search_embed/grid"),
        (_external_data, "external data"),
        (_external_constant, "external data"),
        (_nonzero, "head/conv1/relu is a NonZero"),
        (_written_out_gelu, "blocks.2/mlp/gelu (Erf) is a written-out"),
        (_nonzero_that_allows_itself, "head/conv1/relu is a NonZero"),
        (_reads_bytes, "early (Transpose) reads uint8"),
        (_wide_index, "blocks.1/ce/stay gathers with an index that is not 1-D"),
        (_second_reader, "blocks.3/attn/softmax has a second reader"),
        (_sorted, "sorts for nothing"),
        (_nameless, "1 nodes are not named"),
        (_twice, "nodes share names: blocks.3/attn/values"),
        (_no_score_map, "head/score_map is missing"),
        (_no_kept, "blocks.2/ce/kept is missing"),
    ],
)
def test_a_broken_graph_is_refused(damage: Callable[[onnx.ModelProto], None], complaint: str) -> None:
    _, track = built("small_rec")
    damage(track)
    assert complaint in "; ".join(graph_violations(track))
    with pytest.raises(UserError, match="the track graph breaks the graph rules: ") as refusal:
        check_graph(track)
    assert "\n" not in str(refusal.value)


def test_a_graph_may_say_what_it_needs() -> None:
    _, track = built("small_rec")
    node(track, "head/conv1/relu").op_type = "Exp"
    assert graph_violations(track) == [
        "head/conv1/relu (Exp) is a written-out LayerNormalization, Gelu or Softmax"
    ]
    allow(track, "Exp")
    assert graph_violations(track) == []


def test_an_older_graph_without_roles_keeps_the_rules() -> None:
    _, track = built("small_rec")
    for n in track.graph.node:
        for names in (n.input, n.output):
            names[:] = ["map" if name == "head/score_map" else name for name in names]
    assert graph_violations(track) == ["head/score_map is missing"]
    del track.metadata_props[:]
    assert graph_violations(track) == []


def test_plain_macs_are_the_papers() -> None:
    assert plain_macs(VIT_B) / 1e9 == pytest.approx(21.5, abs=0.05)
    large = replace(VIT_B, template_size=192, search_size=384)
    assert plain_macs(large) / 1e9 == pytest.approx(48.3, abs=0.05)
    assert plain_macs(replace(VIT_B, ce_layers=(), keep_ratio=())) / 1e9 == pytest.approx(29.0, abs=0.05)
    assert plain_macs(replace(large, ce_layers=(), keep_ratio=())) / 1e9 == pytest.approx(65.3, abs=0.05)


@pytest.mark.parametrize("name", ["ostrack256_ce", "jn256", "jn_corner"])
def test_plain_macs_equal_what_the_layers_do(name: str) -> None:
    """The formula against the shapes that pass through every linear and convolution."""
    case = golden_case(name)
    model, counted = plain_model(case), [0]

    def count(module: torch.nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        counted[0] += out.numel() * weight[0].numel()

    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(count)
    recipe = case.recipe
    crops = [torch.zeros(1, 3, size, size) for size in (recipe.template_size, recipe.search_size)]
    with torch.no_grad():
        model(*crops, target_box=torch.zeros(1, 4))
    # qkv is applied as a function on the module's weight, which no hook sees.
    arriving, context = recipe.search_count, recipe.template_count + (recipe.target_hidden > 0)
    for block in range(recipe.depth):
        counted[0] += 3 * recipe.dim**2 * (context + arriving)
        arriving = recipe.keep_counts.get(block, arriving)
    assert plain_macs(recipe) == counted[0]


def test_macs_of_a_small_graph_by_hand() -> None:
    _, track = built("jn_corner")
    recipe = golden_case("jn_corner").recipe
    d, n, c = recipe.dim, recipe.search_count, recipe.template_count + 1
    # Embedding; qkv, of block 0 the search's alone.
    linears = n * 768 * d + n * 3 * d * d + (recipe.depth - 1) * (n + c) * 3 * d * d
    linears += ((recipe.depth - 1) * (n + c) + n) * (d * d + 2 * d * recipe.mlp_dim)
    convolutions = 2 * n * (9 * (d * 16 + 16 * 8 + 8 * 4 + 4 * 2) + 2)
    decoding = 2 * n * 2 + 4 * 4  # the expectation of the corners
    assert count_macs(track) == linears + convolutions + decoding


@pytest.mark.parametrize("name", ["small_box", "jn256_ce", "jn_corner"])
def test_parity_holds(name: str) -> None:
    case = golden_case(name)
    model, (template, track) = plain_model(case), built(name)
    result = parity(model, template, track, draw_samples(ostrack, case.recipe, 3))
    assert result.passed
    assert result.to_dict()["passed"] is True
    assert 0 < result.box_difference < 1e-5
    assert result.box.shape == (3, 4)
    assert result.score.shape == (3,)


def test_parity_of_a_batch() -> None:
    case = golden_case("small_rec")
    template, track = build_graphs(case.recipe, case.weights, 2)
    samples = draw_samples(ostrack, case.recipe, 4)
    result = parity(plain_model(case), template, track, samples)
    assert result.passed
    assert result.box.shape == (4, 4)
    with pytest.raises(ValueError, match="3 samples are no multiple of the batch 2"):
        parity(plain_model(case), template, track, {k: v[:3] for k, v in samples.items()})


@pytest.mark.parametrize("name", ["backbone.blocks.1.norm2.bias", "backbone.blocks.2.norm1.weight"])
def test_parity_refuses_other_weights(name: str) -> None:
    case = golden_case("small_rec")
    template, track = build_graphs(case.recipe, {**case.weights, name: 1.2 * case.weights[name] + 0.1})
    result = parity(plain_model(case), template, track, draw_samples(ostrack, case.recipe, 2))
    assert not result.passed
    assert result.unexcused or result.box_difference > 1e-4
    assert "allowed 1e-04" in str(result)


def test_parity_refuses_what_is_not_finite() -> None:
    case = golden_case("small_rec")
    weights = {**case.weights, "box_head.conv5_ctr.bias": np.array([np.nan], np.float32)}
    template, track = build_graphs(case.recipe, weights)
    assert not parity(plain_model(case), template, track, draw_samples(ostrack, case.recipe, 1)).passed


def test_a_swapped_tie_is_excused_and_nothing_else() -> None:
    """Two search tokens closer than rounding: which of them stays does not matter."""
    similarity = np.linspace(1, 0, 36, dtype=np.float32)
    similarity[20] = np.nan
    kept = np.arange(10)
    assert ranking_gap(similarity, kept) < 0
    similarity[10] = similarity[9] + 2e-7
    assert 0 < ranking_gap(similarity, kept) < 1e-5
    similarity[10] = similarity[8]
    assert ranking_gap(similarity, kept) > 1e-2


def test_parity_forces_the_kept_set_where_it_differs() -> None:
    """A graph that ranks the other way round: forced, the boxes agree, but it is no tie."""
    case = golden_case("small_rec")
    template, track = built("small_rec")
    for ranking in [n for n in track.graph.node if n.op_type == "TopK"]:
        next(a for a in ranking.attribute if a.name == "largest").i = 0
    result = parity(plain_model(case), template, track, draw_samples(ostrack, case.recipe, 2))
    assert result.unexcused == 2
    assert result.box_difference < 1e-5
    assert not result.passed
    assert "2 samples keep other tokens" in str(result)
