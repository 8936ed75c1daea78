"""The fast form and its ONNX graphs against the golden vectors and the plain form."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from jntrt.export.families.ostrack.fast.graphs import build_graphs
from jntrt.export.families.ostrack.fast.heads import FastHead, neighbour_table
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.onnx.promote import promote
from jntrt.export.onnx.roles import Roles, read_roles
from jntrt.export.onnx.writer import FLOAT, OnnxWriter

from ...onnx.float64 import run_in_float64
from .golden_networks import JN, OSTRACK, Case, golden_case, plain_model, tensors

ALL = (*OSTRACK, *JN)
SMALL = Recipe(
    family="ostrack",
    template_size=48,
    template_factor=2.0,
    search_size=96,
    search_factor=4.0,
    dim=24,
    depth=3,
    heads=2,
    mlp_dim=48,
    head_channels=16,
)


@cache
def graphs(name: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    case = golden_case(name)
    return build_graphs(case.recipe, case.weights, len(case.template))


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    taken = {i.name: inputs[i.name] for i in session.get_inputs()}
    return dict(zip(names, session.run(names, taken), strict=True))


def run_graphs(
    template: onnx.ModelProto, track: onnx.ModelProto, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return run(track, {**inputs, **run(template, inputs)})


def graph_inputs(case: Case) -> dict[str, np.ndarray]:
    inputs = {"template": case.template, "search": case.search}
    if case.target_box is not None:
        inputs["target_box"] = case.target_box
    if case.mask is not None:
        inputs["template_weights"] = (case.mask / case.mask.sum()).astype(np.float32)
    return inputs


def score_map(out: dict[str, torch.Tensor]) -> np.ndarray:
    """What `head/score_map` is for each head."""
    if "tl" in out:
        return torch.cat((out["tl"], out["br"]), dim=1).numpy()
    return out["score" if "score" in out else "sigma"].numpy()


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(np.reshape(actual, expected.shape), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ALL)
def test_graphs_equal_the_golden_vectors(name: str) -> None:
    case = golden_case(name)
    template, track = graphs(name)
    kept = [f"blocks.{i}/ce/kept" for i in case.recipe.keep_counts]
    got = run_graphs(template, promote(track, [*kept, "head/score_map"]), graph_inputs(case))
    expected = case.outputs
    if name in OSTRACK:
        close(got["box"], expected["pred_box_window"], 5e-6)
        close(got["head/score_map"], expected["score_map"], 2e-5)
        flat = expected["score_map"].reshape(len(case.search), -1)
        close(got["score"], flat[np.arange(len(flat)), expected["argmax_window"]], 2e-5)
    else:
        close(got["box"], expected["box" if case.recipe.head == "corner" else "box_window"], 5e-5)
        close(got["score"], expected["presence"], 5e-5)
        maps = {"center": ["score_map"], "distribution": ["sigma"], "corner": ["prob_tl", "prob_br"]}
        close(got["head/score_map"], np.stack([expected[m] for m in maps[case.recipe.head]]), 5e-5)
    for layer in case.recipe.keep_counts:
        cells = np.sort(got[f"blocks.{layer}/ce/kept"], axis=1)
        assert np.array_equal(cells, np.sort(np.atleast_2d(expected[f"kept_L{layer}"]), axis=1))


@pytest.mark.parametrize("name", ["corner"])
def test_corner_graph_equals_the_plain_form(name: str) -> None:
    """The golden case stores the head alone: the rest is compared with the plain form, the head by both."""
    case = golden_case(name)
    with torch.no_grad():
        model = plain_model(case)
        out = model(**tensors(case))
        box, score = model.decode(out)
    template, track = graphs(name)
    got = run_graphs(template, promote(track, ["head/score_map"]), graph_inputs(case))
    close(got["box"], box.numpy(), 5e-6)
    close(got["score"], score.numpy(), 5e-6)
    close(got["head/score_map"], score_map(out), 5e-6)
    features = case.outputs["search_features"]
    writer = OnnxWriter("head", case.weights)
    box_of_features, _ = FastHead(writer, case.recipe, case.weights, 1).predict(
        writer.input("features", FLOAT, features[0].shape), None
    )
    writer.output(box_of_features, "box", FLOAT, (1, 4))
    got = run(promote(writer.model({}), ["head/score_map"]), {"features": features[0]})
    close(got["box"], case.outputs["box_cxcywh"], 5e-6)
    close(got["head/score_map"][0, 0], case.outputs["score_map_tl"][0, 0], 5e-6)


@pytest.mark.parametrize("name", ALL)
def test_fast_form_is_exact(name: str) -> None:
    """In float64 the fast form differs from the plain one by the rounding of folded weights, no more."""
    case = golden_case(name)
    template, track = graphs(name)
    places = [f"blocks.{i}/ce/{what}" for i in case.recipe.keep_counts for what in ("similarity", "kept")]
    inputs = graph_inputs(case)
    memory = run_in_float64(template, inputs)
    got = run_in_float64(track, {**inputs, **memory}, ["box", "score", "head/score_map", *places])
    model = plain_model(case).double()
    values = {k: v.double() if v.is_floating_point() else v for k, v in tensors(case).items()}
    with torch.no_grad():
        out = model(**values)
        plain_box, plain_score = model.decode(out)
    close(got["head/score_map"], score_map(out), 1e-5)
    close(got["box"], plain_box.numpy(), 2e-6)
    close(got["score"], plain_score.numpy(), 5e-6)
    for layer in case.recipe.keep_counts:
        similarity = out[f"similarity.{layer}"].nansum(1).numpy()
        close(got[f"blocks.{layer}/ce/similarity"].sum(1), similarity, 2e-6)
        kept = out[f"kept.{layer}"].sort().values.numpy()
        assert np.array_equal(np.sort(got[f"blocks.{layer}/ce/kept"]), kept)


@pytest.mark.parametrize("layers", [(0,), (2,), (0, 1, 2), (1, 2), ()])
@pytest.mark.parametrize("tokens", ["center", "rect", "all", "box"])
def test_elimination_anywhere(layers: tuple[int, ...], tokens: str) -> None:
    """In the first block, the last, all of them; a batch of 2 whose samples keep other cells."""
    recipe = replace(SMALL, ce_layers=layers, keep_ratio=(0.7,) * len(layers), template_tokens=tokens)
    compare_small(recipe, batch=2)


@pytest.mark.parametrize("head", ["center", "corner", "distribution"])
@pytest.mark.parametrize("depth", [1, 2])
def test_heads_in_a_batch_with_target_token(head: str, depth: int) -> None:
    recipe = replace(
        SMALL, family="jn", depth=depth, head=head, bins=9, quality_dim=8, target_hidden=4, qkv="qv"
    )
    compare_small(replace(recipe, layer_scale=True, ce_layers=(depth - 1,), keep_ratio=(0.5,)), batch=3)


def random_model(recipe: Recipe) -> OSTrack:
    """Trained-like: scales about 1, products that keep the values' size."""
    torch.manual_seed(3)
    model = OSTrack(recipe).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            spread = 0.5 if tensor.ndim == 1 else tensor[0].numel() ** -0.5
            tensor.copy_(spread * torch.randn_like(tensor) + (0.8 if tensor.ndim == 1 else 0))
            if name.endswith("running_var"):
                tensor.abs_()
    return model


def compare_small(recipe: Recipe, batch: int) -> None:
    """Random trained-like weights: plain form against the graphs."""
    model = random_model(recipe)
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    rng = np.random.default_rng(5)
    mask = rng.random((batch, recipe.template_count)) < 0.4
    inputs = {
        "template": rng.integers(0, 256, (batch, 48, 48, 3), dtype=np.uint8),
        "search": rng.integers(0, 256, (batch, 96, 96, 3), dtype=np.uint8),
        "target_box": rng.random((batch, 4)).astype(np.float32),
        "template_weights": (mask / mask.sum(1, keepdims=True)).astype(np.float32),
    }
    case = Case(
        "small", recipe, weights, inputs["template"], inputs["search"], inputs["target_box"], mask, {}
    )
    with torch.no_grad():
        out = model(**tensors(case))
        box, score = model.decode(out)
    template, track = build_graphs(recipe, weights, batch)
    names = [f"blocks.{i}/ce/kept" for i in recipe.keep_counts]
    got = run_graphs(template, promote(track, [*names, "head/score_map"]), inputs)
    close(got["head/score_map"], score_map(out), 2e-5)
    close(got["box"], box.numpy(), 2e-5)
    close(got["score"], score.numpy(), 2e-5)
    for layer in recipe.keep_counts:
        assert np.array_equal(
            np.sort(got[f"blocks.{layer}/ce/kept"]), out[f"kept.{layer}"].sort().values.numpy()
        )


HEAD_ROLES = {
    "center": """score_map/sigmoid score_map response response_flat argmax score_flat cell
        offset/flat offset/by_cell offset/rows offset centre_cells centre
        size_logits/flat size_logits/by_cell size_logits/rows size_logits size/sigmoid size""",
    "corner": """logits flat softmax score_map probability corners xyxy peaks product""",
    "distribution": """reg/flat reg/by_cell reg/sides distribution
        quality/topk quality/mean quality/top_mean quality/features quality/sigmoid quality
        cls/sigmoid score_map response response_flat argmax score_flat
        distribution_at_cell expected distances reach point""",
}


@pytest.mark.parametrize("head", HEAD_ROLES)
def test_roles_say_what_may_be_int8_and_what_stays_float32(head: str) -> None:
    """All Linears of the blocks; convolutions but those that make the logits."""
    recipe = replace(
        SMALL, head=head, bins=9, quality_dim=8, ce_layers=(1,), keep_ratio=(0.5,), template_tokens="box"
    )
    weights = {k: v.numpy() for k, v in random_model(recipe).state_dict().items()}
    template, track = map(read_roles, build_graphs(recipe, weights, 1))
    assert template == Roles(int8=("blocks.0/template/attn/qkv/matmul",))
    assert track is not None
    linears = [f"blocks.{b}/{n}/matmul" for b in range(3) for n in ("attn/proj", "mlp/fc1", "mlp/fc2")]
    linears += ["blocks.0/search/attn/qkv/matmul", *(f"blocks.{b}/attn/qkv/matmul" for b in (1, 2))]
    linears += ["head/conv1/taps"]
    branches = {"center": ("ctr", "offset", "size"), "corner": ("tl", "br"), "distribution": ("cls", "reg")}
    convolutions = [f"head/{branch}/conv{k}" for branch in branches[head] for k in (2, 3, 4)]
    assert sorted(track.int8) == sorted(linears + convolutions)
    of_ranking = ("softmax", "slice", "mean", "weights", "weighted", "similarity", "topk")
    ranking = [f"blocks.1/ce/{n}" for n in of_ranking]
    decoding = [f"head/{n}" for n in HEAD_ROLES[head].split()]
    assert sorted(track.float32) == sorted([*ranking, *decoding, "box", "score"])
    assert track.kept == ("blocks.1/ce/kept",)
    assert track.interior == ("head/score_map",)


def test_unchanged_tensors_keep_their_names() -> None:
    case = golden_case("jn_cae")
    _, track = graphs("jn_cae")
    names = {i.name: i for i in track.graph.initializer}
    for name in ("backbone.blocks.2.norm1.weight", "backbone.norm.bias", "box_head.conv5_cls.weight"):
        assert np.array_equal(onnx.numpy_helper.to_array(names[name]), case.weights[name])
    for name in names.keys() & case.weights.keys():
        assert np.array_equal(onnx.numpy_helper.to_array(names[name]), case.weights[name]), name
    # LayerScale is folded into fc2's bias: it must not pass for the checkpoint's.
    assert "backbone.blocks.2.mlp.fc2.bias" not in names
    assert "blocks.2/attn/scores" in {node.name for node in track.graph.node}


def test_scalars_are_scalars() -> None:
    """Clip's bounds have to be, and a quotient of one number has no business to be a list."""
    _, track = graphs("small_rec")
    dims = {i.name: list(i.dims) for i in track.graph.initializer}
    for name in ("head/side", "head/clamp_low", "head/clamp_high"):
        assert dims[name] == []


def test_neighbours_of_a_corner() -> None:
    table = neighbour_table(3)
    assert table[0].tolist() == [9, 9, 9, 9, 0, 1, 9, 3, 4]
    assert table[4].tolist() == list(range(9))


def test_same_weights_same_bytes() -> None:
    case = golden_case("small_rec")
    again = build_graphs(case.recipe, case.weights)
    for first, second in zip(graphs("small_rec"), again, strict=True):
        assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
