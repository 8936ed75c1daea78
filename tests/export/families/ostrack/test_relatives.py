"""Published trackers that are OSTrack under other names: small random checkpoints in their layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from jntrt.export.cli import app
from jntrt.export.experiment_yaml import ExperimentYaml
from jntrt.export.families.ostrack import family
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.plain import load_weights
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError

from .test_graphs import random_model

SMALL = Recipe("ostrack", 48, 2.0, 96, 4.0, dim=24, depth=4, heads=2, mlp_dim=48, head_channels=16)
TOLD = ["--heads", "2", "--template-factor", "2", "--search-factor", "4"]
BLOCKS = "backbone.blocks."


def weights_of(recipe: Recipe) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in random_model(recipe).state_dict().items()}


def compressed(weights: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(BLOCKS, "backbone.distill_blocks."): value for name, value in weights.items()}


def compresstracker(recipe: Recipe, *, training: bool = False) -> dict[str, np.ndarray]:
    """Its blocks under their name; with the teacher beside them as its training stores it."""
    renamed = compressed(weights_of(recipe))
    if training:
        teacher = {f"{BLOCKS}{n}.norm1.weight": np.zeros(recipe.dim, np.float32) for n in range(12)}
        renamed |= teacher | {"ori_box_head.conv1_ctr.0.bias": np.zeros(16, np.float32)}
    return renamed


def droptrack(recipe: Recipe) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Its weights, and OSTrack's that compute the same."""
    weights = weights_of(recipe)
    rng = np.random.default_rng(1)
    frames = {crop: rng.standard_normal((1, 1, recipe.dim)).astype(np.float32) for crop in "zx"}
    places = {crop: f"backbone.pos_embed_{crop}" for crop in "zx"}
    ours = weights | {places[crop]: weights[places[crop]] + frames[crop] for crop in "zx"}
    return weights | {f"backbone.temporal_pos_embed_{crop}": frames[crop] for crop in "zx"}, ours


def export(tmp_path: Path, weights: dict[str, np.ndarray], *words: str, folder: str = "") -> tuple[int, Path]:
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    save_file(weights, place / "net.safetensors")
    return run(app, [str(place / "net.safetensors"), "-o", str(tmp_path / "b"), *words]), tmp_path / "b"


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
@pytest.mark.parametrize("training", [False, True])
def test_compresstracker(tmp_path: Path, capsys: Any, depth: int, training: bool) -> None:
    recipe = Recipe(**{**SMALL.to_dict(), "depth": depth, "ce_layers": (), "keep_ratio": ()})
    weights = compresstracker(recipe, training=training)
    code, bundle = export(tmp_path, weights, *TOLD, "--ce-layers", "none", "--json")
    assert code == 0
    rows = json.loads(capsys.readouterr().out)["inferred"]
    assert rows[0]["from"] == "weights: CompressTracker: backbone.distill_blocks"
    assert Bundle.open(bundle).recipe == recipe.to_dict()


def shapes(recipe: Recipe) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return OSTrack(recipe).state_dict()


def published(depth: int, dim: int = 768, heads: int = 12) -> dict[str, torch.Tensor]:
    return shapes(Recipe("ostrack", 128, 2.0, 256, 4.0, dim=dim, depth=depth, heads=heads, mlp_dim=4 * dim))


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_compresstracker_of_the_published_sizes_needs_nothing_said(depth: int) -> None:
    inferred = family.infer(compressed(published(depth)), None, family.Flags(), ())
    recipe = inferred.recipe
    assert (recipe.depth, recipe.heads, recipe.ce_layers) == (depth, 12, ())
    assert (recipe.template_factor, recipe.search_factor) == (2.0, 4.0)
    assert ("ce layers", "none", "published at 256") in inferred.rows
    with pytest.raises(UserError, match="--ce-layers"):
        family.infer(compressed(published(5)), None, family.Flags(), ())


@pytest.mark.parametrize(
    ("weights", "name", "known"),
    [
        (published(4), "compresstracker_vitb_256_4", True),
        (published(4), "compresstracker_vitb_256_6", False),
        (published(12, 192, 3), "deit_tiny_patch16_224", True),
        (published(6, 192, 3), "deit_tiny_distilled_patch16_224", True),
        (published(12), "deit_tiny_patch16_224", False),
        (published(12, 192, 3), "vit_tiny_patch16_224", False),
    ],
)
def test_official_recipe_names(weights: dict[str, torch.Tensor], name: str, known: bool) -> None:
    names = [(name, "the folder")]
    if known:
        recipe = family.infer(weights, None, family.Flags(), names).recipe
        assert (recipe.ce_layers, recipe.template_factor, recipe.search_factor) == ((), 2.0, 4.0)
    else:
        with pytest.raises(UserError, match="--ce-layers"):
            family.infer(weights, None, family.Flags(), names)


def test_ortracks_and_compresstrackers_files_say_that_nothing_is_eliminated() -> None:
    for kind in ("deit_tiny_patch16_224", "vit_base_patch16_224_compress"):
        crops = {"SEARCH": {"FACTOR": 4.0, "SIZE": 256}, "TEMPLATE": {"FACTOR": 2.0, "SIZE": 128}}
        said = {
            "DATA": crops,
            "MODEL": {"BACKBONE": {"TYPE": kind, "STRIDE": 16}, "HEAD": {"TYPE": "CENTER"}},
        }
        weights = published(12, 192, 3)
        recipe = family.infer(weights, ExperimentYaml("a.yaml", said), family.Flags(), ()).recipe
        assert (recipe.ce_layers, recipe.heads) == ((), 3)


def test_ortrack_in_a_folder_of_its_name(tmp_path: Path, capsys: Any) -> None:
    """A classifier that DeiT left behind is named as unused."""
    recipe = Recipe("ostrack", 128, 2.0, 256, 4.0, dim=192, depth=1, heads=3, mlp_dim=96, head_channels=16)
    weights = weights_of(recipe) | {"backbone.head.bias": np.zeros(1000, np.float32)}
    code, bundle = export(tmp_path, weights, "--json", folder="deit_tiny_patch16_224")
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert "backbone.head.bias" in told["unused"]
    assert Bundle.open(bundle).recipe == recipe.to_dict()


def test_droptracks_vectors_are_in_the_positions(tmp_path: Path, capsys: Any) -> None:
    theirs, ours = droptrack(SMALL)
    assert family.recognise(theirs) == "DropTrack: backbone.temporal_pos_embed"
    taken = family.own_names(theirs)
    assert taken.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(taken[name], value)
    plain = OSTrack(SMALL)
    assert load_weights(plain, taken) == []
    assert export(tmp_path, theirs, *TOLD, "--ce-layers", "none")[0] == 0


@pytest.mark.parametrize("shape", [(1, 1, 7), (24,), (1, 9, 24), (1, 1, 0)])
def test_a_vector_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    theirs, _ = droptrack(SMALL)
    wrong = {**theirs, "backbone.temporal_pos_embed_x": np.zeros(shape, np.float32)}
    with pytest.raises(UserError, match="temporal_pos_embed_x has the shape"):
        family.own_names(wrong)


def test_ostracks_own_weights_are_not_touched() -> None:
    weights = weights_of(SMALL)
    assert family.own_names(weights) is weights


@pytest.mark.parametrize(
    "said", [{"TEST": {"SEARCH": {"USE_GRID": True}}}, {"DATA": {"SEARCH": {"GRID": {"USE_GRID": True}}}}]
)
def test_zoomtracks_file_is_refused(said: dict[str, Any]) -> None:
    """Its weights are OSTrack's in every name and size; only its file tells."""
    with pytest.raises(UserError, match="asks for ZoomTrack's crop") as caught:
        family.infer(published(12), ExperimentYaml("zoom.yaml", said), family.Flags(), ())
    assert "\n" not in str(caught.value)
