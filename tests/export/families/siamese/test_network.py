"""The plain form against the golden vectors, and what loading refuses."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from jntrt.export.families.plain import load_weights
from jntrt.export.families.siamese.infer import recipe_from_weights
from jntrt.export.families.siamese.plain.decode import decode
from jntrt.export.families.siamese.plain.network import plain, plain_macs
from jntrt.runtime.errors import UserError

from .golden_siamese import (
    GOLDEN,
    HNE,
    NANOTRACK,
    hne_case,
    model_of,
    nanotrack_case,
    recipe_of,
    run_plain,
    weights_of,
)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("version", NANOTRACK)
def test_nanotrack_maps_and_box(version, number):
    case = nanotrack_case(version, number)
    want, got = case.expected, run_plain(version, case)
    for name in ("zf", "xf"):
        np.testing.assert_allclose(got[name], want[name], atol=5e-4)
    np.testing.assert_allclose(got["cls"], want["cls"], atol=2e-4)
    np.testing.assert_allclose(got["loc"], want["loc"], rtol=2e-4)
    step = want["step"]
    best, second = np.sort(got["response"])[[-1, -2]]
    assert best - second == pytest.approx(step["margin"], abs=1e-5)
    assert got["cell"] == step["cell"]
    assert got["score"] == pytest.approx(step["score"], abs=1e-5)
    cx, cy, w, h = got["box"] * 255
    centre = (np.array([cx, cy]) - 127.5) / want["scale"] + step["previous_centre"]
    np.testing.assert_allclose(centre, step["centre"], atol=2e-3)
    np.testing.assert_allclose(np.array([w, h]) / want["scale"], step["size"], atol=2e-3)


@pytest.mark.parametrize("name", HNE)
def test_hne_maps_and_box(name):
    case = hne_case(name)
    want, got = case.expected, run_plain("hne", case)
    for level in "234":
        for branch in ("cls", "reg"):
            key = f"kernel_{level}_{branch}"
            np.testing.assert_allclose(got[key], want[key], atol=5e-4)
    for key in ("S", "R"):
        np.testing.assert_allclose(got[key], want[key], atol=5e-4)
    np.testing.assert_allclose(got["C"][0], want["C"], atol=5e-4)
    for key in ("penalty", "response"):
        np.testing.assert_allclose(got[key].reshape(26, 26), want[key], atol=5e-4)
    assert divmod(int(got["cell"]), 26) == tuple(want["cell"])
    assert got["score"] == pytest.approx(float(want["presence"]), abs=5e-4)
    assert got["beta"] == pytest.approx(float(want["beta"]), abs=5e-4)
    box = frame_box(got["box"], want["state"], want["scale"])
    np.testing.assert_allclose(box, want["new_box_unclipped"], atol=0.02)


def test_hne_updates_of_given_logits():
    """Every golden update at its cell, in float64; elsewhere the score is 0."""
    file = json.loads((GOLDEN / "hne" / "updates.json").read_text())
    recipe = recipe_of("hne")
    constants = (recipe.penalty_k, recipe.window_influence, recipe.rate, recipe.grid_offset, recipe.map_side)
    assert constants == tuple(file["constants"][k] for k in ("k", "alpha", "rate", "origin", "map"))
    for case in file["cases"]:
        row, column = case["cell"]
        score, distances = torch.zeros(1, 26, 26).double(), torch.ones(1, 4, 26, 26).double()
        score[0, row, column] = case["score"]
        distances[0, :, row, column] = torch.tensor(case["distances"])
        previous = torch.tensor([case["previous_in_instance"]]).double()
        # Without window, so that the cell is chosen.
        got = decode(replace(recipe, window_influence=0.0), score, distances, previous)
        cell = 26 * row + column
        assert got["cell"].item() == cell
        assert got["penalty"][0, cell].item() == pytest.approx(case["penalty"], abs=1e-7)
        assert got["beta"].item() == pytest.approx(case["beta"], abs=1e-8)
        box = frame_box(got["box"][0].numpy(), case["state"], case["scale"])
        np.testing.assert_allclose(box, case["new_box_unclipped"], atol=1e-5)
        response = decode(recipe, score, distances, previous)["response"][0, cell].item()
        assert response == pytest.approx(case["response"], abs=1e-7)


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "hne"])
def test_missing_and_odd_weights_are_named(name):
    weights = dict(weights_of(name))
    model = plain(recipe_of(name))
    key = next(k for k in weights if k.startswith("backbone") and k.endswith(".running_var"))
    with pytest.raises(UserError, match=f"lacks 1 weights of this network: {re.escape(key)}"):
        load_weights(model, {k: v for k, v in weights.items() if k != key})
    with pytest.raises(UserError, match=re.escape(f"{key} (3,)")):
        load_weights(model, {**weights, key: np.ones(3, np.float32)})
    with pytest.raises(UserError, match="not floating-point numbers"):
        load_weights(model, {**weights, key: np.ones(weights[key].shape, np.int64)})


def test_a_bias_before_a_batch_norm_is_added():
    """HNE's convolutions have none; a checkpoint with one means conv + bias, then batch norm."""
    weights = dict(weights_of("hne"))
    bias = np.linspace(-1, 1, 16, dtype=np.float32)
    weights["neck.3.conv.bias"] = bias
    recipe = recipe_from_weights(weights)
    assert recipe.biases == ("neck.3.conv",)
    model = plain(recipe).eval()
    assert load_weights(model, weights) == []
    plain_model = model_of("hne")
    x = torch.randn(1, 96, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = plain_model.neck["3"].bn(plain_model.neck["3"].conv(x) + torch.from_numpy(bias)[:, None, None])
        torch.testing.assert_close(model.neck["3"](x), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "hne"])
def test_every_weight_gets_a_gradient(name):
    model = plain(recipe_of(name)).train()
    size = model.recipe.template_size, model.recipe.search_size
    generator = torch.Generator().manual_seed(0)
    crops = [torch.randint(0, 256, (2, s, s, 3), dtype=torch.uint8, generator=generator) for s in size]
    out = model(*(model.normalise(crop) for crop in crops))
    maps = [out[k] for k in ("cls", "loc", "S", "C", "R") if k in out]
    sum(m.square().mean() for m in maps).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("version", "macs"), [("v1", 69.1e6), ("v2", 78.3e6), ("v3", 109.4e6)])
def test_macs_are_the_published_ones(version, macs):
    assert plain_macs(recipe_of(version)) == pytest.approx(macs, rel=0.001)


def frame_box(box, state, scale):
    """cx, cy, w, h in crop units → x, y, w, h in the frame."""
    x, y, w, h = state
    centre = np.array([x + w / 2, y + h / 2]) + (box[:2] - 0.5) * 255 / scale
    size = box[2:] * 255 / scale
    return np.concatenate((centre - size / 2, size))
