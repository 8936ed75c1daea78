"""Recipes: what weights, YAML, recipe names and flags say, which of them wins, where the command stops."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.experiment_yaml import read_experiment_yaml
from jntrt.export.families.inference import Inferred
from jntrt.export.families.ostrack.experiment_file import recipe_yaml
from jntrt.export.families.ostrack.flags import Flags
from jntrt.export.families.ostrack.infer import infer_recipe
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.key_map import read_key_map, rename
from jntrt.runtime.errors import UserError

GOLDEN = Path(__file__).parents[3] / "data" / "golden"
SMALL = read_checkpoint(GOLDEN / "networks" / "small_weights.safetensors").weights
JN = read_checkpoint(GOLDEN / "jn" / "JN_ep0060.pth.tar").weights
CROPS = {"template_factor": 2.0, "search_factor": 4.0}
TOLD = {**CROPS, "heads": 4, "target_box_format": "cxcywh", "ce_layers": "none"}
"""What JN's weights, of no published sizes, do not show."""


def infer(weights: Any, config: object = None, tmp: Path | None = None, **flags: Any) -> Inferred:
    names = flags.pop("names", ())
    given_config = None
    if config is not None:
        path = config if isinstance(config, Path) else tmp / "recipe.yaml"
        if not isinstance(config, Path):
            path.write_text(yaml.safe_dump(config))
        given_config = recipe_yaml(read_experiment_yaml(path))
    return infer_recipe(weights, flags=Flags(**flags), config=given_config, names=names)


def refused(part: str, weights: Any, config: object = None, tmp: Path | None = None, **flags: Any) -> None:
    with pytest.raises(UserError) as caught:
        infer(weights, config, tmp, **flags)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", sorted(p.parent.name for p in (GOLDEN / "networks").glob("*/config.yaml")))
def test_golden_networks(case: str) -> None:
    folder = GOLDEN / "networks" / case
    said = yaml.safe_load((folder / "config.yaml").read_text())
    if case == "ostrack384_ce":
        weights = dict(read_checkpoint(GOLDEN / "networks" / "ostrack256_ce" / "weights.safetensors").weights)
        weights |= read_checkpoint(folder / "weights_overlay.safetensors").weights
    else:
        own = folder / "weights.safetensors"
        weights = dict(read_checkpoint(own).weights) if own.exists() else SMALL
    if case == "corner":  # head and encoder of this case are recorded, its sizes are not in the file
        weights.setdefault("backbone.pos_embed_z", np.zeros((1, 64, 32), np.float32))
    recipe = infer(weights, folder / "config.yaml").recipe
    backbone = said["MODEL"]["BACKBONE"]
    ranges = {"CTR_POINT": "center", "CTR_REC": "rect", "GT_BOX": "box", "ALL": "all"}
    assert recipe.family == "ostrack"
    assert (recipe.template_size, recipe.search_size) == tuple(
        said["DATA"][k]["SIZE"] for k in ("TEMPLATE", "SEARCH")
    )
    assert recipe.search_factor == said["DATA"]["SEARCH"]["FACTOR"]
    assert (recipe.dim, recipe.depth, recipe.heads) == tuple(
        backbone[k] for k in ("EMBED_DIM", "DEPTH", "NUM_HEADS")
    )
    assert recipe.head == said["MODEL"]["HEAD"]["TYPE"].lower()
    assert recipe.head_channels == said["MODEL"]["HEAD"]["NUM_CHANNELS"]
    assert list(recipe.ce_layers) == backbone.get("CE_LOC", [])
    assert list(recipe.keep_ratio) == backbone.get("CE_KEEP_RATIO", [])
    if recipe.ce_layers:
        assert recipe.template_tokens == ranges[backbone["CE_TEMPLATE_RANGE"]]
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            "jn256",
            {"target_hidden": 4, "head": "distribution", "bins": 17, "quality_dim": 64, "ce_layers": ()},
        ),
        ("jn256_ce", {"ce_layers": (1, 3), "keep_ratio": (0.7, 0.7), "template_tokens": "center"}),
        ("jn_cae", {"qkv": "qv", "layer_scale": True, "target_hidden": 16, "target_box_format": "xyxy01"}),
        ("jn384", {"template_size": 192, "search_size": 384, "search_factor": 5.0, "bins": 17}),
        ("jn_center", {"head": "center", "head_channels": 16, "target_hidden": 4}),
        ("jn_corner", {"head": "corner", "head_channels": 16, "bins": 0}),
    ],
)
def test_golden_jn(case: str, expected: dict[str, object]) -> None:
    folder = GOLDEN / "jn" / case
    own = folder / "weights.safetensors"
    weights = read_checkpoint(
        own if own.exists() else GOLDEN / "jn" / "jn256" / "weights.safetensors"
    ).weights
    recipe = infer(weights, folder / "config.yaml").recipe
    assert recipe.family == "jn"
    assert {k: getattr(recipe, k) for k in expected} == expected


def sized(weights: Any, dim: int, depth: int, hidden: int) -> dict[str, Any]:
    """The weights with the shapes that show another backbone; no more than its shape of each."""
    changed = dict(weights)
    changed["backbone.patch_embed.proj.weight"] = np.zeros((dim, 3, 16, 16), np.float32)
    changed["backbone.blocks.0.mlp.fc1.weight"] = np.zeros((hidden, dim), np.float32)
    return changed | {f"backbone.blocks.{n}.norm1.weight": np.zeros(dim, np.float32) for n in range(depth)}


VIT_B = (768, 12, 3072)


def test_the_published_sizes_need_no_flag() -> None:
    inferred = infer(sized(JN, *VIT_B))
    recipe = inferred.recipe
    assert (recipe.family, recipe.heads, recipe.ce_layers) == ("jn", 12, ())
    assert (recipe.template_factor, recipe.search_factor, recipe.target_box_format) == (2.0, 4.0, "cxcywh")
    assert ("family", "jn", "weights: target token") in inferred.rows
    assert ("search factor", "4.0", "published at 256") in inferred.rows
    assert (inferred.presence_threshold, inferred.license, inferred.weights) == (0.25, "unknown", "unknown")


@pytest.mark.parametrize("size", [(64, 4, 128), (384, 12, 1536), (768, 11, 3072), (768, 12, 3071)])
def test_no_default_of_the_papers_for_other_sizes(size: tuple[int, int, int]) -> None:
    """With jn-nano's heads alone and the defaults of the papers it tracked at AO 0.16 in place of 0.62."""
    weights = sized(JN, *size)
    with pytest.raises(UserError) as caught:
        infer(weights, heads=4)
    for flag in (
        "--template-factor F",
        "--search-factor F",
        "--target-box-format",
        "--ce-layers 3,6,9 or none",
    ):
        assert flag in str(caught.value)
    assert "--heads" not in str(caught.value)
    for left_out in ("template_factor", "search_factor", "target_box_format", "ce_layers"):
        flag = f"--{left_out.replace('_', '-')}"
        told = {key: value for key, value in TOLD.items() if key != left_out}
        with pytest.raises(UserError, match=f"say {flag} [^-]*, or give --config$"):
            infer(weights, **told)
    assert infer(weights, **TOLD).recipe.ce_layers == ()
    refused("--keep-ratio R, --template-tokens ROWS", weights, **{**TOLD, "ce_layers": "1,2"})


def test_crops_of_another_size_are_not_the_papers() -> None:
    weights = {**sized(JN, *VIT_B), "backbone.pos_embed_z": np.zeros((1, 36, 64), np.float32)}
    refused("--search-factor", weights)


def test_heads_of_an_odd_width() -> None:
    refused("--heads N", JN, **{key: value for key, value in TOLD.items() if key != "heads"})
    assert ("heads", "4", "--heads") in infer(JN, **TOLD).rows


def test_what_is_not_known_is_told(tmp_path: Path) -> None:
    unsaid = infer(JN, **TOLD)
    assert unsaid.not_known == ("presence threshold", "license", "trained")
    assert ("presence threshold", "0.25", "not known: default") in unsaid.rows
    said = infer(JN, {"LICENSE": "MIT"}, tmp_path, **TOLD, presence_threshold=0.3)
    assert said.not_known == ("trained",)


def test_ostrack_without_a_schedule_stops() -> None:
    refused("say --ce-layers 3,6,9 or none, or", SMALL, heads=3, **CROPS)
    assert infer(SMALL, heads=3, ce_layers="none", **CROPS).recipe.ce_layers == ()


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vitb_256_mae_ce_32x4_ep300", (3, 6, 9)),
        ("vitl_256_mae_32x4_ep300", ()),
        ("vitb_384_mae_ce_32x4_ep300", None),  # another network's name
        ("vits_256_mae_ce_32x4_ep300", None),
        ("mytracker_ce_256", None),
        ("vitb_256", None),
        ("vitb_256_nice_ep300", ()),
        ("vitb_256_mae_ce_got10k-ep100.v2", (3, 6, 9)),
    ],
)
def test_only_official_recipe_names_speak(name: str, layers: tuple[int, ...] | None) -> None:
    weights = read_checkpoint(
        GOLDEN / "checkpoints" / "vitb_256_mae_ce_32x4_ep300" / "OSTrack_ep0300.pth.tar"
    ).weights
    names = [("nothing", "settings"), (name, "folder")]
    if layers is None:
        refused("--ce-layers", weights, heads=4, names=names)
    else:
        recipe = infer(weights, heads=4, names=names).recipe
        assert recipe.ce_layers == layers
        assert recipe.keep_ratio == (0.7,) * len(layers)


def test_yaml_without_elimination_and_half_said_yamls(tmp_path: Path) -> None:
    def config(**backbone: object) -> dict[str, object]:
        crops = {"SEARCH": {"FACTOR": 4.0}, "TEMPLATE": {"FACTOR": 2.0}}
        return {"DATA": crops, "MODEL": {"BACKBONE": {"NUM_HEADS": 3, **backbone}}}

    plain = config(TYPE="vit_base_patch16_224")
    assert infer(SMALL, plain, tmp_path).recipe.ce_layers == ()
    refused("--ce-layers", SMALL, config(TYPE="vit_base_patch16_224_ce"), tmp_path)
    refused("--ce-layers", SMALL, config(TYPE="vit_base_patch16_224", CE_LOC=[1]), tmp_path)
    refused("--ce-layers", SMALL, config(), tmp_path)
    refused("CE_LOC", SMALL, config(CE_LOC="3,6"), tmp_path)
    half = config(CE_LOC=[1, 2])
    refused("--keep-ratio R, --template-tokens ROWS", SMALL, half, tmp_path)
    ranked = {"template_tokens": "center"}
    assert infer(SMALL, half, tmp_path, keep_ratio="0.7", **ranked).recipe.keep_ratio == (0.7, 0.7)
    # A flag answers what the file leaves open, and wins over what it says.
    half = config(TYPE="vit_base_patch16_224_ce")
    recipe = infer(SMALL, half, tmp_path, ce_layers="2", keep_ratio="0.5", **ranked).recipe
    assert (recipe.ce_layers, recipe.keep_ratio) == ((2,), (0.5,))
    assert infer(SMALL, plain, tmp_path, heads=6).recipe.heads == 6


def test_flags_win(tmp_path: Path) -> None:
    inferred = infer(
        SMALL,
        GOLDEN / "networks" / "small_rec" / "config.yaml",
        ce_layers="1,4",
        keep_ratio="0.7",
        template_tokens="all",
        template_factor=3.0,
        search_factor=4.5,
        presence_threshold=0.4,
        license="CC-BY-4.0",
        trained="yes",
    )
    recipe = inferred.recipe
    assert (recipe.ce_layers, recipe.keep_ratio, recipe.template_tokens) == ((1, 4), (0.7, 0.7), "all")
    assert (recipe.template_factor, recipe.search_factor) == (3.0, 4.5)
    assert (inferred.presence_threshold, inferred.license, inferred.weights) == (0.4, "CC-BY-4.0", "trained")
    assert ("search factor", "4.5", "--search-factor") in inferred.rows


def test_yaml_facts_for_the_manifest(tmp_path: Path) -> None:
    said = {"PRESENCE_THRESHOLD": 0.3, "LICENSE": "MIT", "TRAINED": False}
    inferred = infer(JN, said, tmp_path, **TOLD)
    assert (inferred.presence_threshold, inferred.license, inferred.weights) == (0.3, "MIT", "untrained")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"DATA": {"SEARCH": {"SIZE": 256}}}, "search size"),
        ({"TEST": {"TEMPLATE_SIZE": 144}}, "template size"),
        ({"DATA": {"SEARCH": {"FACTOR": 4}}, "TEST": {"SEARCH_FACTOR": 5}}, "disagree"),
        ({"DATA": {"SEARCH": {"SIZE": 192}}, "TEST": {"SEARCH_SIZE": 256}}, "disagree"),
        ({"MODEL": {"BACKBONE": {"EMBED_DIM": 768}}}, "dim"),
        ({"MODEL": {"BACKBONE": {"DEPTH": 12}}}, "depth"),
        ({"MODEL": {"BACKBONE": {"STRIDE": 8}}}, "patch"),
        ({"MODEL": {"HEAD": {"TYPE": "CORNER"}}}, "head"),
        ({"MODEL": {"HEAD": {"TYPE": "MLP"}}}, "HEAD.TYPE"),
        ({"MODEL": {"HEAD": {"TYPE": "CENTER", "NUM_CHANNELS": 256}}}, "head channels"),
        ({"MODEL": {"BACKBONE": {"NUM_HEADS": 2.5}}}, "NUM_HEADS"),
        ({"MODEL": [1]}, "MODEL"),
        ({"DATA": {"MEAN": [0.5, 0.5, 0.5]}}, "MEAN"),
        ({"TRAINED": "perhaps"}, "yes, no or unknown"),
        ({"PRESENCE_THRESHOLD": 2}, "threshold"),
        ({"family": "siamese"}, "family"),
        ({"OTHER": 1}, "is it a recipe"),
    ],
)
def test_yamls_that_do_not_belong(tmp_path: Path, change: dict[str, object], part: str) -> None:
    refused(
        part,
        SMALL,
        change,
        tmp_path,
        **({"ce_layers": "none", "heads": 3} if "NUM_HEADS" not in str(change) else {}),
        **({} if "FACTOR" in str(change) else CROPS),
    )


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ({"ce_layers": "3,a"}, "--ce-layers"),
        ({"ce_layers": ""}, "--ce-layers"),
        ({"ce_layers": "4,1"}, "must rise"),
        ({"ce_layers": "5,6"}, "must rise"),
        ({"ce_layers": "1,2", "keep_ratio": "0.5,0.6,0.7"}, "as many keep ratios"),
        ({"ce_layers": "1", "keep_ratio": "1.5"}, "keep ratio"),
        ({"ce_layers": "1", "template_tokens": "some"}, "template tokens"),
        ({"ce_layers": "none", "keep_ratio": "0.5"}, "--keep-ratio"),
        ({"ce_layers": "none", "heads": 5}, "5 heads"),
        ({"ce_layers": "none", "heads": -1}, "heads"),
        ({"ce_layers": "none", "search_factor": float("nan")}, "search factor"),
        ({"ce_layers": "none", "target_box_format": "cxcywh"}, "--target-box-format"),
    ],
)
def test_wrong_flags(flags: dict[str, Any], part: str) -> None:
    ranked = {} if flags["ce_layers"] == "none" else {"keep_ratio": "0.7", "template_tokens": "center"}
    refused(part, SMALL, **{"heads": 3, **CROPS, **ranked, **flags})


def test_heads_of_the_known_widths() -> None:
    for dim, heads in {192: 3, 384: 6, 768: 12, 1024: 16}.items():
        weights = dict(JN)
        weights["backbone.patch_embed.proj.weight"] = np.zeros((dim, 3, 16, 16), np.float32)
        told = {key: value for key, value in TOLD.items() if key != "heads"}
        assert infer(weights, **told).recipe.heads == heads


def test_search_factor_of_384() -> None:
    sides = {"backbone.pos_embed_z": 144, "backbone.pos_embed_x": 576}
    weights = sized(JN, *VIT_B) | {k: np.zeros((1, n, 64), np.float32) for k, n in sides.items()}
    assert infer(weights).recipe.search_factor == 5.0


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("backbone.patch_embed.proj.weight", None, "--key-map"),
        ("backbone.pos_embed_x", np.zeros((1, 250, 64)), "square"),
        ("backbone.pos_embed_z", np.zeros(64), "dimensions"),
        ("box_head.conv1_cls.0.weight", None, "no box head"),
        ("backbone.blocks.3.norm1.weight", None, None),
        ("backbone.blocks.9.norm1.weight", np.zeros(64), "numbered"),
        ("box_head.conv1_cls.0.weight", np.zeros((30, 64, 3, 3)), "halved"),
        ("box_head.conv5_reg.weight", np.zeros((8, 4, 1, 1)), "bins"),
    ],
)
def test_weights_that_are_no_tracker(name: str, value: Any, part: str | None) -> None:
    weights = {k: v for k, v in JN.items() if k != name} | ({} if value is None else {name: value})
    if part is None:  # a missing weight that the recipe does not need is found when the network is filled
        infer(weights, **TOLD)
    else:
        refused(part, weights, **TOLD)


def test_key_map(tmp_path: Path) -> None:
    there = rename(JN, {"backbone.*": "encoder.*", "box_head.*.0.*": "head.*.conv.*"})
    assert "encoder.blocks.0.attn.qkv.weight" in there
    assert "head.conv1_cls.conv.weight" in there
    back = rename(there, {"encoder.*": "backbone.*", "head.*.conv.*": "box_head.*.0.*"})
    assert back.keys() == JN.keys()
    for wrong, part in [
        ({"nothing.*": "x.*"}, "matches no weight"),
        ({"backbone.*": "same"}, "two weights"),
        ({"backbone.norm": "a.*"}, "more *"),
    ]:
        with pytest.raises(UserError, match=part.replace("*", r"\*")):
            rename(JN, wrong)
    (tmp_path / "map.yaml").write_text("a.*: b.*\n")
    assert read_key_map(tmp_path / "map.yaml") == {"a.*": "b.*"}
    for text in ("[1, 2]", "a: 1", ": :", "", "\x00"):
        (tmp_path / "map.yaml").write_text(text)
        with pytest.raises(UserError, match="--key-map"):
            read_key_map(tmp_path / "map.yaml")


_PLACES = [
    *(
        "DATA.SEARCH.SIZE",
        "DATA.TEMPLATE.FACTOR",
        "TEST.SEARCH_FACTOR",
        "PRESENCE_THRESHOLD",
        "LICENSE",
        "TRAINED",
    ),
    *(
        "MODEL.BACKBONE.TYPE",
        "MODEL.BACKBONE.CE_LOC",
        "MODEL.BACKBONE.CE_KEEP_RATIO",
        "MODEL.BACKBONE.NUM_HEADS",
    ),
    *(
        "MODEL.BACKBONE.CE_TEMPLATE_RANGE",
        "MODEL.HEAD.TYPE",
        "MODEL.TARGET_BOX_FORMAT",
        "MODEL",
        "DATA.MEAN",
        "family",
    ),
]
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["CENTER", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(_PLACES), _VALUES, max_size=3))
def test_any_yaml_is_a_recipe_or_one_line(tmp_path: Path, said: dict[str, object]) -> None:
    tree: dict[str, Any] = {"TEST": {"EPOCH": 1}}
    for place, value in said.items():
        node = tree
        *folders, last = place.split(".")
        for key in folders:
            node = node.setdefault(key, {}) if isinstance(node.setdefault(key, {}), dict) else {}
        node[last] = value
    told = ""
    try:
        infer(JN, tree, tmp_path, **TOLD)
    except UserError as error:
        told = str(error)
    assert "\n" not in told


@given(st.integers(1, 40), st.lists(st.floats(0.01, 1.0), max_size=6))
def test_keep_counts_fall_and_never_reach_zero(side: int, ratios: list[float]) -> None:
    recipe = Recipe(
        "ostrack", 128, 2.0, 16 * side, 4.0, 64, 12, 4, 256,
        ce_layers=tuple(range(len(ratios))), keep_ratio=tuple(ratios),
    )  # fmt: skip
    counts = [recipe.search_count, *recipe.keep_counts.values()]
    assert all(a > b >= 1 for a, b in pairwise(counts))


def test_published_keep_counts() -> None:
    common = {
        "family": "ostrack",
        "template_factor": 2.0,
        "dim": 768,
        "depth": 12,
        "heads": 12,
        "mlp_dim": 3072,
    }
    common |= {"ce_layers": (3, 6, 9), "keep_ratio": (0.7, 0.7, 0.7)}
    small = Recipe(template_size=128, search_size=256, search_factor=4.0, **common)
    large = Recipe(template_size=192, search_size=384, search_factor=5.0, **common)
    assert list(small.keep_counts.values()) == [180, 126, 89]
    assert list(large.keep_counts.values()) == [404, 283, 199]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"search_size": 16 * 1500}, "24000 pixels a side"),
        ({"search_size": 8 * 200, "template_size": 8 * 200, "patch": 8}, "is it a tracker"),
        ({"depth": 5000}, "5000 blocks"),
        ({"mlp_dim": 1 << 20}, "is it a tracker"),
        ({"head_channels": 1 << 20}, "is it a tracker"),
        ({"bins": 1 << 20}, "is it a tracker"),
    ],
)
def test_networks_that_are_too_large_are_not_built(changes: dict[str, int], complaint: str) -> None:
    base = {
        "family": "ostrack", "template_size": 128, "template_factor": 2.0, "search_size": 256,
        "search_factor": 4.0, "dim": 768, "depth": 12, "heads": 12, "mlp_dim": 3072,
    }  # fmt: skip
    assert Recipe(**base).search_count == 256
    assert Recipe(**{**base, "template_size": 384, "search_size": 768, "dim": 1024, "heads": 16}).depth == 12
    with pytest.raises(UserError, match=complaint):
        Recipe(**{**base, **changes})
