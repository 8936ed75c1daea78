"""What is read from names and shapes, and the recipe's way through a manifest."""

import json

import numpy as np
import pytest
import torch

from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.experiment_yaml import ExperimentYaml
from jntrt.export.families.siamese.infer import Flags, infer_recipe, recipe_from_weights, recognise
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.runtime.errors import UserError

from .golden_siamese import GOLDEN, NANOTRACK, recipe_of, weights_of


@pytest.mark.parametrize("version", NANOTRACK)
def test_nanotrack_is_read_from_names_and_shapes(version):
    meta = json.loads((GOLDEN / "nanotrack" / version / "meta.json").read_text())
    recipe = recipe_of(version)
    assert recognise(weights_of(version)).startswith(f"nanotrack-{version}: ban_head.corr_")
    assert recipe.version == f"nanotrack-{version}"
    constants = (recipe.window_influence, recipe.penalty_k, recipe.rate)
    assert constants == tuple(meta[k] for k in ("window_influence", "penalty_k", "lr"))
    assert (recipe.map_side, recipe.stride) == (meta["score_size"], meta["stride"])
    # The published table, after (kernel, expansion, outputs, SE, h-swish, stride).
    rows = [(3, 16, 16, 8, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 24, 1, 2)]
    rows += [(5, 240, 40, 64, 1, 1)] * 2 + [(5, 120, 48, 32, 1, 1), (5, 144, 48, 40, 1, 1)]
    rows += [(5, 288, 96, 72, 1, 1)] * (version == "v3")
    assert recipe.blocks == tuple(rows)
    towers = {"v1": ((5, 5, 3), (3, 3, 5, 5)), "v2": ((3,) * 6,) * 2, "v3": ((3,) * 6,) * 2}
    assert (recipe.cls_tower, recipe.reg_tower) == towers[version]
    assert (recipe.cls_width, recipe.reg_width) == (128 if version == "v1" else 96, 96)


def test_hne_is_read_from_names_and_shapes():
    recipe = recipe_of("hne")
    widths = json.loads((GOLDEN / "hne" / "hne_a" / "meta.json").read_text())["widths"]
    rows = zip(widths["blocks_per_layer"], widths["bottleneck"], widths["stage"], strict=True)
    assert recipe.blocks == tuple(rows)
    assert (recipe.stem, recipe.width) == (widths["stem"], widths["neck"])
    assert (recipe.cls_tower, recipe.reg_tower) == ((3,) * 4,) * 2
    assert (recipe.map_side, recipe.grid_offset) == (26, 27)


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "hne"])
def test_a_recipe_survives_its_manifest(name):
    recipe = recipe_of(name)
    assert Recipe.from_dict(json.loads(json.dumps({**recipe.to_dict(), "later": 1}))) == recipe


def test_odd_recipes_are_refused_in_one_line():
    values = recipe_of("v3").to_dict()
    with pytest.raises(UserError, match="incomplete or odd"):
        Recipe.from_dict({k: v for k, v in values.items() if k != "blocks"})
    with pytest.raises(UserError, match="incomplete or odd"):
        Recipe.from_dict({**values, "blocks": [["x"]]})
    with pytest.raises(UserError, match="version 'v9' is unknown"):
        Recipe.from_dict({**values, "version": "v9"})
    with pytest.raises(UserError, match=r"rate 1.5 is not in 0…1"):
        Recipe.from_dict({**values, "rate": 1.5})


def test_other_weights_are_not_recognised():
    other = {"backbone.blocks.0.attn.qkv.weight": np.zeros((3, 1), np.float32)}
    assert recognise(other) is None
    with pytest.raises(UserError, match="--key-map"):
        recipe_from_weights(other)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("v2", lambda w: w.pop("backbone.features.3.conv.3.weight"), "no weight .backbone.features.3.conv.3"),
        ("v2", lambda w: [w.pop(k) for k in list(w) if ".features.4." in k], "not numbered 0, 1, 2"),
        ("hne", lambda w: [w.pop(k) for k in list(w) if "layer3.0." in k], "not numbered 0, 1, 2"),
        ("hne", lambda w: w.update({"neck.2.conv.weight": np.zeros(3, np.float32)}), "not 4 dimensions"),
    ],
)
def test_damaged_weights_are_named(name, damage, message):
    weights = dict(weights_of(name))
    damage(weights)
    with pytest.raises(UserError, match=message):
        recipe_from_weights(weights)


def test_a_checkpoint_with_its_optimizer_is_read(tmp_path):
    """As the authors saved theirs, beside an optimizer with a NumPy scalar in it, which is not read."""
    weights = weights_of("v1")
    state = {f"module.{k}": torch.from_numpy(v) for k, v in weights.items()}
    optimizer = {"state": {}, "param_groups": [{"lr": np.float64(0.1), "params": [0]}]}
    torch.save({"epoch": 50, "state_dict": state, "optimizer": optimizer}, tmp_path / "nanotrackv1.pth")
    checkpoint = read_checkpoint(tmp_path / "nanotrackv1.pth")
    assert any("scalar" in name for name in checkpoint.names)
    assert recipe_from_weights(checkpoint.weights) == recipe_of("v1")
    assert all(np.array_equal(checkpoint.weights[k], v) for k, v in weights.items())


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "hne"])
def test_defaults_hold_for_the_published_sizes_alone(name):
    """The constants of the decoding were found for one network; another has to be told its own."""
    weights, nobody = weights_of(name), ExperimentYaml("", {})
    if name != "hne":  # whose golden network is a narrow one
        assert infer_recipe(weights, Flags(), nobody).recipe == recipe_of(name)
        stem = "backbone.features.0.0.weight"
        weights = {**weights, stem: np.concatenate([weights[stem]] * 2)}
    with pytest.raises(UserError, match="these sizes: say --window-influence X, --penalty-k X, --rate X, or"):
        infer_recipe(weights, Flags(), nobody)
    with pytest.raises(UserError, match="these sizes: say --rate X, or"):
        infer_recipe(weights, Flags(window_influence=0.4, penalty_k=0.1), nobody)
    said = infer_recipe(weights, Flags(window_influence=0.4, penalty_k=0.1, rate=0.3), nobody).recipe
    assert (said.window_influence, said.penalty_k, said.rate) == (0.4, 0.1, 0.3)
