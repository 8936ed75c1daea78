"""TensorRT's layers to the graph's nodes, by what TensorRT-RTX really builds, and to a GPU's data sheet."""

import re
from typing import Any

import pytest

from jntrt.bench.cards import CARDS
from jntrt.bench.layers import WORST, Profile, notes, summarise
from jntrt.bench.layers.peaks import gpu_peaks
from jntrt.bench.layers.tensorrt_profile import layers_of
from jntrt.bench.layers.work import Layer, attention_products, graph_macs
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.engines.graph.onnx_bytes import read_nodes
from jntrt.runtime.engines.tensorrt.build import BuildOptions, build_plan, load_flavour, logger

LINE = re.compile(
    r"^Name: (.*?), LayerType: (.*?), Inputs: \[(.*?)\], Constants: \[(.*?)\], Outputs: \[(.*?)\],"
    r" TacticName: .*?, Metadata: (.*)$",
    re.MULTILINE,
)
PORT = re.compile(r"Name: (.*?), Dimensions: \[([\d,]*)\].*?Datatype: (\w+)")
NODES = ["a/fc", "a/relu", "a/conv", "a/scores", "b/fc"]
MACS = {"a/fc": 10, "a/conv": 20, "a/scores": 40, "b/fc": 80}


def described(listing: str) -> list[dict[str, Any]]:
    """The build's listing, which needs no GPU, as the inspector has its layers."""
    found = []
    for name, kind, *groups, metadata in LINE.findall(listing):
        ports = [
            [
                {"Name": port, "Dimensions": [int(n) for n in shape.split(",") if n], "Datatype": datatype}
                for port, shape, datatype in PORT.findall(group)
            ]
            for group in groups
        ]
        ends = dict(zip(("Inputs", "Constants", "Outputs"), ports, strict=True))
        found.append({"Name": name, "LayerType": kind, "Metadata": metadata, **ends})
    return found


def test_layers_of_a_real_build_add_up_to_the_graph() -> None:
    """Every product is counted once, though kernels that pad and slice name its node as well."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    bundle = open_bundle("jn-nano")
    graph = bundle.graph("track", "fp32")
    sink = logger(load_flavour("tensorrt-rtx"))
    sink.listings.clear()
    model = graph.read_bytes()
    build_plan(model, "tensorrt-rtx", BuildOptions(), targets=("SM89",), detailed=True)
    listed = described(sink.listings[-1])
    assert len(listed) == sink.listings[-1].count("LayerType: ")
    named = re.findall(r"\[ONNX Layer: (.*?)\]", sink.listings[-1])
    assert len(named) > len(set(named))
    run = {layer["Name"]: 0.01 for layer in listed}
    macs = graph_macs(graph)
    nodes = [node.name for node in read_nodes(model)]
    layers, lost = layers_of(listed, [run], macs, nodes, attention_products(graph))
    assert lost == []
    found = summarise(layers, 1.0, gpu_peaks("NVIDIA GeForce RTX 2080 Ti"))
    assert found["macs"] == bundle.manifest["macs"]["fast"]
    assert found["macs"] + found["attention_macs"] == sum(macs.values())
    assert {"search_embed", "blocks.0", "blocks.4", "head"} <= {block["block"] for block in found["blocks"]}
    scores = [layer for layer in layers if layer.name == "blocks.0/attn/scores" and layer.macs]
    assert [(layer.kind, layer.macs, layer.precision) for layer in scores] == [
        ("gemm", 4 * 137 * 137 * 32, "fp32")
    ]
    projection = next(layer for layer in layers if layer.name == "blocks.0/attn/proj/matmul")
    weights = 128 * 128 + 2  # and the two factors of a product with an addition
    assert projection.moved == 4 * (2 * 137 * 128 + weights)


def test_names_tell_what_metadata_does_not() -> None:
    """Fused names joined by plus signs, a range of nodes, and a kernel that TensorRT made itself."""
    names = ["a/fc + a/relu", "{ForeignNode[a/conv...a/scores]}", "Reformatting CopyNode for Input 0"]
    times = [{name: float(k + run) for k, name in enumerate(names, 1)} for run in range(3)]
    layers, lost = layers_of([{"Name": name} for name in names], times, MACS, NODES, {"a/scores"})
    assert [layer.macs for layer in layers] == [10, 60, 0]
    assert [layer.ms for layer in layers] == [2, 3, 4]
    assert [layer.attention for layer in layers] == [False, False, False]  # one is a product of weights
    assert [layer.block for layer in layers] == ["a", "a", "others"]
    assert lost == ["b/fc"]
    said = notes(Profile(1.0, layers, "NVIDIA A30", tuple(lost)))
    assert said[1] == "products of 1 nodes are not counted, no layer names them: b/fc"


@pytest.mark.parametrize(
    ("port", "precision", "nbytes"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8", 6),
        ({"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "fp16", 12),
        ({"Format": "(Linear) Row major linear format", "Datatype": "BFloat16"}, "bf16", 12),
        ({"Format": "(Linear) Row major linear format", "Datatype": "Float"}, "tf32", 24),
    ],
)
def test_types_of_tensors_in_10_and_from_11_on(port: dict[str, str], precision: str, nbytes: int) -> None:
    read = {"Name": "x", "Dimensions": [2, 3], **port}
    layer = {"Name": "k", "LayerType": "gemm", "Inputs": [read, read], "Metadata": "[ONNX Layer: b/fc]"}
    (found,), _ = layers_of([layer], [{"k": 1.0}], MACS, NODES, set(), tf32=True)
    assert (found.name, found.macs, found.precision, found.moved) == ("b/fc", 80, precision, nbytes)


def test_a_gpu_s_limits_are_its_data_sheet_s() -> None:
    peaks = gpu_peaks("NVIDIA GeForce RTX 2080 Ti")
    assert peaks is not None
    assert peaks.macs["fp16"] == pytest.approx(53.8e12)
    assert peaks.macs["fp32"] == pytest.approx(13.45e12 / 2, rel=1e-3)
    assert peaks.limit("fp16", 0, 524e9) == pytest.approx(1)
    assert notes(Profile(1.0, [], "Tesla T4")) == [
        "limits: the data sheet of the T4, bytes at what copies achieve"
    ]
    assert {name for name, card in CARDS.items() if card.fp32_flops > 15e12} == {"a100"}


def test_a_gpu_that_the_table_lacks_has_no_limits() -> None:
    gpu = "NVIDIA GeForce RTX 2060 with Max-Q Design"
    assert gpu_peaks(gpu) is None
    assert notes(Profile(1.0, [], gpu)) == [f"no limits: {gpu} is not in the table of GPUs"]
    layers = [Layer(f"b.{k}/fc", f"b.{k % 2}", "gemm", "fp16", 1.0 + k, 10, 10) for k in range(12)]
    found = summarise(layers, 1.0, None)
    assert found["worst"] == [f"b.{k}/fc" for k in range(11, 11 - WORST, -1)]
    assert {(row["limit_ms"], row["share"]) for row in (*found["layers"], *found["blocks"])} == {(None, None)}
    assert [block["ms"] for block in found["blocks"]] == [36, 42]
