"""The plain form against the golden vectors, and what training needs of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from jntrt.export.families.ostrack.plain.heads import expected_position, hann
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.plain import load_weights
from jntrt.runtime.errors import UserError

from .golden_networks import JN, OSTRACK, ROOT, golden_case, plain_model, tensors

SMALL = Recipe(
    family="jn",
    template_size=48,
    template_factor=2.0,
    search_size=96,
    search_factor=4.0,
    dim=24,
    depth=3,
    heads=2,
    mlp_dim=48,
    head="center",
    head_channels=16,
    target_hidden=4,
    ce_layers=(1,),
    keep_ratio=(0.7,),
)


def close(actual: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual.numpy().reshape(expected.shape), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", OSTRACK)
def test_ostrack_equals_the_official_code(name: str) -> None:
    case = golden_case(name)
    model, expected = plain_model(case), case.outputs
    with torch.no_grad():
        out = model(**tensors(case))
        box, score = model.decode(out)
    close(out["score"], expected["score_map"], 2e-5)
    close(out["size"], expected["size_map"], 1e-5)
    close(out["offset"], expected["offset_map"], 3e-5)
    close(out["features"], expected["search_features"], 5e-5)
    close(out["template_features"], expected["template_features"], 5e-5)
    close(box, expected["pred_box_window"], 5e-6)
    close(
        score,
        expected["score_map"].reshape(len(score), -1)[range(len(score)), expected["argmax_window"]],
        2e-5,
    )
    plain_cell = out["score"].flatten(1).argmax(dim=1)
    assert plain_cell.tolist() == expected["argmax_score"].tolist()
    close(model.box_head.box_at(out, plain_cell), expected["pred_box"], 5e-6)
    for layer in case.recipe.keep_counts:
        close(out[f"similarity.{layer}"], expected[f"similarity_L{layer}"], 2e-6)
        assert np.array_equal(out[f"kept.{layer}"].sort().values, np.sort(expected[f"kept_L{layer}"]))
    assert [k for k in expected if k.startswith("kept_L")] == [f"kept_L{i}" for i in case.recipe.keep_counts]


@pytest.mark.parametrize("name", JN)
def test_jn_equals_the_reference(name: str) -> None:
    case = golden_case(name)
    model, expected = plain_model(case), case.outputs
    with torch.no_grad():
        out = model(**tensors(case))
        box, score = model.decode(out)
    close(out["features"], expected["search_features"], 5e-5)
    close(score, expected["presence"], 5e-5)
    close(box, expected["box"] if case.recipe.head == "corner" else expected["box_window"], 5e-5)
    maps = {
        "center": {"score": "score_map", "offset": "offset_map", "size": "size_map"},
        "corner": {"tl": "prob_tl", "br": "prob_br"},
        "distribution": {"sigma": "sigma", "C": "C", "M": "M"},
    }[case.recipe.head]
    for ours, theirs in maps.items():
        close(out[ours], expected[theirs], 5e-5)
    if case.recipe.head == "distribution":
        close(out["distances"], expected["distances"], 2e-4)
        row, column = expected["cell_window"]
        close(out["distribution"][0, :, :, row, column], expected["distribution_cell_window"], 5e-5)
    for layer in case.recipe.keep_counts:
        close(out[f"similarity.{layer}"], expected[f"similarity_L{layer}"], 2e-6)
        assert out[f"kept.{layer}"][0].sort().values.tolist() == expected[f"kept_L{layer}"].tolist()


def test_corner_head_equals_the_official_code() -> None:
    case = golden_case("corner")
    head, expected = plain_model(case).box_head, case.outputs
    features = torch.from_numpy(expected["search_features"])
    with torch.no_grad():
        out = head(features.transpose(1, 2).unflatten(2, (16, 16)))
        box, _ = head.decode(out)
    for branch in ("tl", "br"):
        close(out[f"{branch}_logits"], expected[f"score_logits_{branch}"], 1e-4)
        close(out[branch], expected[f"score_map_{branch}"], 5e-6)
    close(box, expected["box_cxcywh"], 5e-6)
    x1, y1 = expected_position(out["tl"])
    close(torch.stack((x1, y1), dim=1), expected["box_xyxy"][:, :2], 5e-6)


def test_window_equals_the_official_one() -> None:
    for name, window in np.load(ROOT / "windows.npz").items():
        close(hann(int(name.removeprefix("hann_"))), window, 1e-6)


def test_a_batch_is_its_samples() -> None:
    """Batched elimination gathers other cells in every sample."""
    case = golden_case("small_box")
    model, one = plain_model(case), tensors(case)
    other = {**one, "search": one["search"].flip(3), "template_mask": one["template_mask"].flip(1)}
    with torch.no_grad():
        both = model(**{k: torch.cat((one[k], other[k])) for k in one})
        single = [model(**one), model(**other)]
    assert not torch.equal(*(x["kept.4"].sort().values for x in single))
    for i, out in enumerate(single):
        torch.testing.assert_close(both["score"][i : i + 1], out["score"], atol=1e-5, rtol=0)
        assert torch.equal(both["kept.4"][i].sort().values, out["kept.4"][0].sort().values)


def test_forced_cells_replace_the_ranking() -> None:
    case = golden_case("ostrack256_ce")
    model, values = plain_model(case), tensors(case)
    with torch.no_grad():
        free = model(**values)
        kept = {i: free[f"kept.{i}"].sort().values for i in case.recipe.keep_counts}
        forced = model(**values, forced=kept)
        kept[9] = torch.arange(89)[None].clone().copy_(kept[6][:, :89])
        other = model(**values, forced=kept)
    torch.testing.assert_close(free["score"], forced["score"], atol=1e-5, rtol=0)
    assert (free["score"] - other["score"]).abs().max() > 1e-3


@pytest.mark.parametrize("head", ["center", "corner", "distribution"])
def test_every_parameter_gets_a_gradient(head: str) -> None:
    torch.manual_seed(0)
    recipe = replace(SMALL, head=head, bins=17, quality_dim=8, qkv="qv", layer_scale=True)
    model = OSTrack(recipe, drop_path=0.1).train()
    out = model(torch.randn(3, 3, 48, 48), torch.randn(3, 3, 96, 96), target_box=torch.rand(3, 4))
    wanted = {
        "center": ("score", "offset", "size"),
        "corner": ("tl", "br"),
        "distribution": ("sigma", "distances"),
    }[head]
    sum((out[name] * torch.randn_like(out[name])).sum() for name in wanted).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_keep_ratio_override() -> None:
    model = OSTrack(SMALL).eval()
    images = (torch.randn(1, 3, 48, 48), torch.randn(1, 3, 96, 96), torch.rand(1, 4))
    assert model(*images)["kept.1"].shape == (1, 26)  # ceil(0.7 · 36)
    assert model(*images, keep_ratio=0.9)["kept.1"].shape == (1, 33)
    assert "kept.1" not in model(*images, keep_ratio=1.0)


def test_unused_missing_and_misshapen_weights() -> None:
    model = OSTrack(SMALL)
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    weights["backbone.cls_token"] = np.zeros((1, 1, 24), np.float32)
    assert load_weights(model, weights) == ["backbone.cls_token"]
    short = {k: v for k, v in weights.items() if k != "backbone.norm.bias"}
    with pytest.raises(UserError, match=r"lacks 1 weights.*backbone\.norm\.bias"):
        load_weights(model, short)
    with pytest.raises(UserError, match=r"backbone\.norm\.bias \(23,\) \(should be \(24,\)\)"):
        load_weights(model, {**weights, "backbone.norm.bias": np.zeros(23, np.float32)})
    with pytest.raises(UserError, match=r"not floating-point numbers: backbone\.norm\.bias"):
        load_weights(model, {**weights, "backbone.norm.bias": np.zeros(24, np.int64)})
