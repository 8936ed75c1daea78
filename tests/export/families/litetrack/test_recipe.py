"""What a LiteTrack's recipe is read from, and what stops the command."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jntrt.export import families
from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.experiment_yaml import ExperimentYaml
from jntrt.export.families.inference import Inferred
from jntrt.export.families.litetrack import family
from jntrt.export.families.litetrack.published import NETWORKS, published
from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import target_box_in_crop

from .golden_litetrack import CASES, GOLDEN, golden_case

CROPS = {"heads": 4, "template_factor": 2.0, "search_factor": 4.0}


def infer(weights: Any, config: Any = None, names: Any = (), **flags: Any) -> Inferred:
    said = None if config is None else ExperimentYaml("a.yaml", config)
    return family.infer(weights, said, family.Flags(**flags), names)


def published_weights(depth: int) -> dict[str, torch.Tensor]:
    recipe = Recipe(128, 2.0, 256, 4.0, dim=768, depth=depth, ai_layers=1, heads=12, mlp_dim=3072)
    with torch.device("meta"):
        return family.plain(recipe).state_dict()


@pytest.mark.parametrize(("name", "depth", "layers"), [("b6_3", 6, 3), ("b4_2", 4, 2)])
def test_golden_recipes(name: str, depth: int, layers: int) -> None:
    recipe = golden_case(name).recipe
    assert (recipe.depth, recipe.ai_layers, recipe.target_hidden) == (depth, layers, 4)
    assert (recipe.template_size, recipe.template_factor, recipe.search_factor) == (128, 2.0, 4.0)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", CASES)
def test_the_weights_say_whose_they_are(name: str) -> None:
    weights = golden_case(name).weights
    assert families.recognise(weights) == ("litetrack", "CAE's blocks and box_head, no backbone.norm")
    jn = read_checkpoint(GOLDEN.parent / "jn" / "jn_cae" / "weights.safetensors").weights
    assert families.recognise(jn)[0] == "ostrack"
    assert families.recognise({**weights, "backbone.norm.weight": np.ones(64, np.float32)})[0] == "ostrack"


@pytest.mark.parametrize(("depth", "layers"), [(9, 3), (8, 3), (6, 3), (4, 2)])
@pytest.mark.parametrize("ending", ["_all_ep300", "_got10k_ep100", ""])
def test_official_names_tell_the_layers(depth: int, layers: int, ending: str) -> None:
    name = f"B{depth}_cae_center{ending}"
    inferred = infer(published_weights(depth), names=[("other", "settings"), (name, "the folder")])
    recipe = inferred.recipe
    assert (recipe.ai_layers, recipe.heads) == (layers, 12)
    assert ("ai layers", str(layers), f"the folder: {name}") in inferred.rows
    assert ("search factor", "4.0", "published at 256") in inferred.rows


@pytest.mark.parametrize("name", ["B6_cae_center_all_ep300", "B4_cae", "vitb_256_mae_ce_32x4_ep300"])
def test_what_nothing_tells_stops_and_is_named(name: str) -> None:
    """The name of another depth says nothing either."""
    with pytest.raises(UserError, match=r"do not show ai layers, .*: say --ai-layers N, or give --config$"):
        infer(published_weights(4), names=[(name, "the folder")])


def test_flags_win_over_the_file_and_the_file_over_the_name() -> None:
    weights, names = published_weights(6), [("B6_cae_center_all_ep300", "the folder")]
    said = {"MODEL": {"BACKBONE": {"AI_LAYERS": 2}}}
    assert infer(weights, said, names).recipe.ai_layers == 2
    assert infer(weights, said, names, ai_layers=5).recipe.ai_layers == 5


def test_other_sizes_have_no_default() -> None:
    with pytest.raises(UserError, match="--ai-layers N, --heads N, --template-factor F, --search-factor F,"):
        infer(golden_case("b6_3").weights)
    assert infer(golden_case("b6_3").weights, ai_layers=2, **CROPS).recipe.ai_layers == 2


@pytest.mark.parametrize(
    ("config", "flags", "part"),
    [
        ({"MODEL": {"BACKBONE": {"AI_LAYERS": 2.5}}}, {}, "AI_LAYERS is 2.5, not a whole number"),
        ({"MODEL": {"USE_CLS_TOKEN": False}}, {"ai_layers": 3}, "the weights show a target token"),
        ({"MODEL": {"BACKBONE": {"DEPTH": 9}}}, {"ai_layers": 3}, "says depth 9, the weights show 6"),
        ({"MODEL": {"HEAD": {"TYPE": "CORNER"}}}, {"ai_layers": 3}, "says head corner"),
        ({"DATA": {"MEAN": [0.5, 0.5, 0.5]}}, {"ai_layers": 3}, "MEAN is not ImageNet's"),
        (None, {"ai_layers": 0}, "say --ai-layers, 1 to 6"),
        (None, {"ai_layers": 7}, "7 interaction layers in 6 blocks"),
        (None, {"ai_layers": 3, "heads": 5}, "5 heads"),
    ],
)
def test_mistakes_are_one_line(config: Any, flags: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        infer(golden_case("b6_3").weights, config, **{**CROPS, **flags})
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_familys_weights_are_refused() -> None:
    jn = read_checkpoint(GOLDEN.parent / "jn" / "jn256" / "weights.safetensors").weights
    with pytest.raises(UserError, match="no LiteTrack: its blocks have q_bias"):
        infer(jn, ai_layers=3, **CROPS)


def test_without_a_target_token() -> None:
    weights = {k: v for k, v in golden_case("b6_3").weights.items() if not k.startswith("target_token")}
    recipe = infer(weights, {"MODEL": {"USE_CLS_TOKEN": False}}, ai_layers=3, **CROPS).recipe
    assert recipe.target_hidden == 0
    assert family.side_inputs(recipe, (10.0, 20.0, 30.0, 20.0)) == {}


def test_the_target_box_is_not_clamped() -> None:
    """A target four times longer than its crop reaches out of it."""
    recipe, box = golden_case("b6_3").recipe, (100.0, 50.0, 160.0, 10.0)
    given = family.side_inputs(recipe, box)["target_box"]
    side, centre = 80, 63.5 / 128  # ceil(√1600·2)
    expected = [centre - 80 / side, centre - 5 / side, centre + 80 / side, centre + 5 / side]
    np.testing.assert_allclose(given, np.float32(expected))
    assert given[0] < 0
    assert given[2] > 1
    from jntrt.runtime.bundle.conventions import CropSpec

    clamped = target_box_in_crop(box, CropSpec(128, 2.0), "xyxy01")
    np.testing.assert_allclose(clamped, np.clip(expected, 0, 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_inferred_from_its_own_experiment_file(name: str) -> None:
    recipe = NETWORKS[name]
    with torch.device("meta"):
        weights = family.plain(recipe).state_dict()
    assert family.recognise(weights)
    assert infer(weights, family.experiment(recipe)).recipe == recipe


def test_published_figures_belong_to_the_published_networks_alone() -> None:
    recipe = NETWORKS["litetrack-b6"].to_dict()
    figure = published(recipe)
    assert figure is not None
    assert (figure.model, figure.fps, figure.device) == ("LiteTrack-B6-3", 237.0, "RTX 2080 Ti")
    other = published(NETWORKS["litetrack-b4"].to_dict())
    assert other is not None
    assert (other.model, other.fps) == ("LiteTrack-B4-2", 315.0)
    for changed in ({"ai_layers": 2}, {"dim": 192}, {"search_size": 384}, {"depth": []}):
        assert published({**recipe, **changed}) is None
