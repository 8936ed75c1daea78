"""Plain form and graphs against the official code, against each other, and what training does with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from jntrt.export.families import objective
from jntrt.export.families.litetrack.fast import build_graphs
from jntrt.export.families.litetrack.plain import LiteTrack, plain_macs
from jntrt.export.families.litetrack.published import NETWORKS
from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.export.onnx.promote import promote
from jntrt.export.onnx.roles import read_roles
from jntrt.export.rules import check_graph, count_macs
from jntrt.runtime.errors import UserError

from ...onnx.float64 import run_in_float64
from ..ostrack.test_graphs import random_model, run_graphs
from .golden_litetrack import CASES, golden_case

SMALL = Recipe(48, 2.0, 96, 4.0, dim=24, depth=4, ai_layers=2, heads=2, mlp_dim=48, head_channels=16)


def close(actual: np.ndarray | torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(np.reshape(actual, expected.shape), expected, rtol=0, atol=tolerance)


def tensors(model: LiteTrack, inputs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The keyword arguments of `LiteTrack.forward`."""
    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    crops = {name: model.normalise(given[name]) for name in ("template", "search")}
    return {**given, **crops}


@pytest.mark.parametrize("name", CASES)
def test_the_plain_form_equals_the_official_code(name: str) -> None:
    case = golden_case(name)
    model = case.plain()
    with torch.no_grad():
        out = model(**tensors(model, case.inputs))
        box, score = model.decode(out)
    close(out["template_features"], case.outputs["template_features"], 5e-5)
    close(out["score"], case.outputs["score_map"], 2e-5)
    close(out["size"], case.outputs["size_map"], 2e-5)
    close(out["offset"], case.outputs["offset_map"], 5e-5)
    close(box, case.outputs["box"], 5e-5)
    close(score, case.outputs["score"], 2e-5)
    cell = (out["score"] * model.box_head.window).flatten(1).argmax(dim=1)
    assert cell.tolist() == [case.outputs["cell"]]


@pytest.mark.parametrize("name", CASES)
def test_the_graphs_equal_the_official_code(name: str) -> None:
    case = golden_case(name)
    template, track = build_graphs(case.recipe, case.weights)
    got = run_graphs(template, promote(track, ["head/score_map"]), case.inputs)
    close(got["head/score_map"], case.outputs["score_map"], 2e-5)
    close(got["box"], case.outputs["box"], 5e-5)
    close(got["score"], case.outputs["score"], 2e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_fast_form_is_exact(name: str) -> None:
    """In float64 it differs from the plain one by the rounding of folded weights, no more."""
    case = golden_case(name)
    template, track = build_graphs(case.recipe, case.weights)
    memory = run_in_float64(template, case.inputs)
    got = run_in_float64(track, {**case.inputs, **memory}, ["box", "score", "head/score_map"])
    model = case.plain().double()
    given = {k: v.double() for k, v in tensors(case.plain(), case.inputs).items()}
    with torch.no_grad():
        out = model(**given)
        box, score = model.decode(out)
    close(got["head/score_map"], out["score"].numpy(), 1e-5)
    close(got["box"], box.numpy(), 2e-6)
    close(got["score"], score.numpy(), 5e-6)


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("layers", [1, 4])
def test_any_number_of_layers_with_and_without_a_token(hidden: int, layers: int) -> None:
    """Three targets with different templates; all blocks interaction layers, and the last one alone."""
    recipe = replace(SMALL, ai_layers=layers, target_hidden=hidden)
    model = LiteTrack(recipe).eval()
    like = random_model(replace(recipe.one_stream, family="jn")).state_dict()
    model.load_state_dict({name: like[name] for name in model.state_dict()})
    rng = np.random.default_rng(5)
    inputs = {
        "template": rng.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8),
        "search": rng.integers(0, 256, (3, 96, 96, 3), dtype=np.uint8),
        "target_box": rng.random((3, 4)).astype(np.float32),
    }
    with torch.no_grad():
        out = model(**tensors(model, inputs))
        box, score = model.decode(out)
    template, track = build_graphs(recipe, {k: v.numpy() for k, v in model.state_dict().items()}, 3)
    got = run_graphs(template, promote(track, ["head/score_map"]), inputs)
    close(got["head/score_map"], out["score"].numpy(), 2e-5)
    close(got["box"], box.numpy(), 2e-5)
    close(got["score"], score.numpy(), 2e-5)
    assert out["score"][0].sub(out["score"][1]).abs().max() > 1e-3


def test_a_frame_costs_its_search_tokens_alone() -> None:
    case = golden_case("b6_3")
    recipe, parts = case.recipe, case.recipe.one_stream
    _, track = build_graphs(recipe, case.weights)
    check_graph(track)
    block = 4 * recipe.dim**2 + 2 * recipe.dim * recipe.mlp_dim
    linears = parts.search_count * (recipe.depth * block + 3 * 16**2 * recipe.dim)
    head = plain_macs(recipe) - plain_macs(replace(recipe, head_channels=0))
    assert count_macs(track) == linears + head
    memory = [value.name for value in track.graph.input]
    assert memory == ["search", "memory_kv.3", "memory_kv.4", "memory_kv.5"]


def test_roles_of_every_linear_but_the_tokens() -> None:
    """All Linears of the blocks may be int8, keys and values of the template too; embeddings may not."""
    case = golden_case("b4_2")
    for graph, blocks in zip(build_graphs(case.recipe, case.weights), (4 * 4 + 2, 4 * 4), strict=True):
        roles = read_roles(graph)
        assert roles is not None
        linears = [name for name in roles.int8 if name.startswith("blocks.")]
        assert len(linears) == blocks
        assert not roles.kept


def test_the_plain_form_counts_what_it_computes() -> None:
    """Linears and convolutions seen by hooks, against `plain_macs`."""
    recipe = replace(SMALL, target_hidden=4)
    model = LiteTrack(recipe).eval()
    counted = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        weight = module.weight
        counted += output.numel() // weight.shape[0] * weight.numel()

    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(count)
    rng = np.random.default_rng(1)
    inputs = {
        name: rng.integers(0, 256, (1, size, size, 3), np.uint8)
        for name, size in (("template", 48), ("search", 96))
    }
    with torch.no_grad():
        model(**tensors(model, {**inputs, "target_box": np.zeros((1, 4), np.float32)}))
    # The qkv linear is called as a function, past its module: 3·D² for each token that it sees.
    nz, nx = recipe.one_stream.template_count, recipe.one_stream.search_count
    seen = recipe.depth * (nz + 1 + nx) + recipe.ai_layers * nz
    assert plain_macs(recipe) == counted + seen * 3 * recipe.dim**2


def trained_batch(recipe: Recipe) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(2)
    return {
        "template": torch.from_numpy(rng.integers(0, 256, (4, 48, 48, 3), np.uint8)),
        "search": torch.from_numpy(rng.integers(0, 256, (4, 96, 96, 3), np.uint8)),
        "target_box": torch.tensor([[0.25, 0.25, 0.75, 0.75]]).repeat(4, 1),
        "box": torch.tensor([[0.4, 0.6, 0.3, 0.2], [0.5, 0.5, 0.2, 0.2], [0.7, 0.3, 0.1, 0.3], [0.0] * 4]),
        "present": torch.tensor([True, True, True, False]),
    }


def test_it_learns_a_batch_and_every_weight_takes_part() -> None:
    torch.manual_seed(0)
    kind = objective("litetrack")
    recipe = replace(SMALL, target_hidden=4)
    aim = kind.Objective(recipe, kind.Settings(backbone_lr=0.1))
    model = aim.network().train()
    aim.initialise(model, "plain", None, 0)
    batch = trained_batch(recipe)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for step in range(12):
        out = aim.loss(model, batch, step)
        assert set(aim.parts) <= out.keys()
        optimiser.zero_grad()
        out["loss"].backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []
        optimiser.step()
        losses.append(float(out["loss"].detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert aim.optimised("backbone.pos_embed_z", model.backbone.pos_embed_z) == (0.1, False)
    assert aim.at(5) == recipe


def test_what_training_refuses() -> None:
    kind = objective("litetrack")
    with pytest.raises(UserError, match="drop_path"):
        kind.Settings(drop_path=2.0)
    aim = kind.Objective(NETWORKS["tiny"], kind.Settings())
    with pytest.raises(UserError, match="no distillation"):
        aim.distillation(aim.network(), 8)


def test_principal_weights_are_a_start_here_too() -> None:
    kind = objective("litetrack")
    aim = kind.Objective(SMALL, kind.Settings())
    model = aim.network()
    before = model.backbone.patch_embed.proj.weight.clone()
    photo = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    aim.initialise(model, "principal", [photo], 0)
    assert not torch.equal(before, model.backbone.patch_embed.proj.weight)
