"""The exported graphs, in calib-jn's fp16, through the runtime's builder, for cards that are not here."""

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from golden_bundles import GOLDEN, golden_network

from jntrt.calib.check_build import build
from jntrt.calib.precisions.fp16 import to_float16
from jntrt.export.families.ostrack.family import plain
from jntrt.export.families.ostrack.fast.graphs import build_graphs
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.pipeline import export_checkpoint
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.tensorrt.build import BuildOptions, build_plan, load_flavour, logger

MEMORY = ("memory_tokens", "memory_qkv")


@pytest.fixture(scope="module")
def rtx() -> ModuleType:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


def fused_attentions(listing: str) -> int:
    return sum(
        "_gemm_mha_v2" in name for name in re.findall(r"^Name: (.*?), LayerType: ", listing, re.MULTILINE)
    )


# ostrack256_nce is left out: its heads of 8 are below what the compiler fuses (16 … 256).
NETWORKS = ["ostrack256_ce", "jn256", "jn256_ce", "small_box"]
COMBINATIONS = [
    pytest.param(network, target, marks=[] if (network, target) in quick else [pytest.mark.slow])
    for quick in [{("jn256_ce", "SM75"), ("ostrack256_ce", "SM89")}]
    for network in NETWORKS
    for target in ("SM75", "SM86", "SM89", "SM120")
]


@pytest.mark.parametrize(("network", "target"), COMBINATIONS)
def test_fp16_graphs_build_and_fuse(rtx: ModuleType, network: str, target: str) -> None:
    recipe, weights = golden_network(network)
    sink = logger(load_flavour("tensorrt-rtx"))
    for model in build_graphs(recipe, weights):
        half = to_float16(model, memory=MEMORY)
        sink.listings.clear()
        plan = build_plan(
            half.SerializeToString(), "tensorrt-rtx", BuildOptions(), targets=(target,), detailed=True
        )
        assert len(plan) > 100_000
    # The track graph came last: each block's attention is one kernel.
    assert fused_attentions(sink.listings[-1]) == recipe.depth


@pytest.mark.parametrize("target", ["SM75", "SM86", "SM89"])
@pytest.mark.parametrize("name", ["b6_3", "b4_2"])
def test_litetrack_builds_and_fuses(rtx: ModuleType, tmp_path: Path, name: str, target: str) -> None:
    """Every attention of the track graph, those over remembered keys and values too."""
    golden = GOLDEN / "litetrack" / name
    export_checkpoint(golden / "weights.safetensors", tmp_path / "b", config=golden / "config.yaml")
    bundle = Bundle.open(tmp_path / "b")
    track = onnx.load(bundle.graph("track", "fp32"))
    memory = [value.name for value in track.graph.input if value.name != "search"]
    assert len(memory) == bundle.recipe["ai_layers"]
    built = build(to_float16(track, memory=memory).SerializeToString(), "fp16", target.removeprefix("SM"))
    assert built.failure is None
    assert built.attentions == built.attentions_total == bundle.recipe["depth"]


def test_the_batch_builds(rtx: ModuleType, tmp_path: Path) -> None:
    recipe, weights = golden_network("jn256_ce")
    _, track = build_graphs(recipe, weights, 2)
    half = to_float16(track, memory=MEMORY)
    assert build_plan(half.SerializeToString(), "tensorrt-rtx", BuildOptions(), targets=("SM89",))


@pytest.mark.parametrize("target", ["SM75", "SM86", "SM89"])
def test_two_elimination_blocks_launch_few_kernels_more(rtx: ModuleType, target: str) -> None:
    """With queries of their own and a matrix product for the ranking row it was twenty and more."""
    recipe = Recipe(
        *("jn", 64, 2.0, 128, 4.0, 128, 4, 4, 256),
        head_channels=16,
        ce_layers=(1, 2),
        keep_ratio=(0.7, 0.7),
    )
    kernels = {}
    for eliminates in (True, False):
        taken = recipe if eliminates else replace(recipe, ce_layers=(), keep_ratio=())
        weights = {name: value.numpy() for name, value in plain(taken).state_dict().items()}
        _, track = build_graphs(taken, weights)
        made = build(to_float16(track, memory=MEMORY).SerializeToString(), "fp16", target.removeprefix("SM"))
        assert made.failure is None
        assert made.attentions == made.attentions_total == recipe.depth
        kernels[eliminates] = made.layers
    assert kernels[True] - kernels[False] <= 10
    assert kernels[True] <= 70
