"""Shapes to work, names to blocks, layers to shares of the machine's limit."""

import json
from pathlib import Path

import numpy as np
import pytest

from jntrt.bench.latency.drawn_video import BOX, write_clip
from jntrt.bench.latency.worker import TimedEngine
from jntrt.bench.layers import WORST, profile_engine, summarise
from jntrt.bench.layers.onnxruntime_profile import read_profile
from jntrt.bench.layers.peaks import Peaks, measure_peaks
from jntrt.bench.layers.work import Layer, block_names, convolution_macs, graph_macs, product_macs
from jntrt.runtime.bundle import open_bundle

PEAKS = Peaks(1, {"fp32": 1e9, "int8": 4e9}, ((1000, 1e9), (1_000_000, 1e8)))


def test_products_and_convolutions() -> None:
    assert product_macs((137, 128), (137, 512)) == 137 * 128 * 512
    assert product_macs((128, 137), (137, 512)) == 137 * 128 * 512  # transposed
    assert product_macs((1, 4, 137, 32), (1, 4, 137, 137)) == 4 * 137 * 137 * 32
    assert convolution_macs((16, 3, 3, 3), (1, 16, 128, 128)) == 16 * 128 * 128 * 27
    assert convolution_macs((80, 1, 3, 3), (1, 80, 32, 32)) == 80 * 32 * 32 * 9  # depthwise
    assert convolution_macs((80, 1, 1, 3, 3), (1, 80, 32, 32)) == 80 * 32 * 32 * 9  # as OpenVINO has it


def test_blocks_are_the_graphs_and_what_an_engine_adds_goes_with_the_next() -> None:
    names = [
        "ReorderInput",
        "backbone/features.1/conv",
        "backbone/features.2/conv",
        "Mul_3",
        "head/cls",
        "Mul_4",
    ]
    assert block_names(names) == [
        *("backbone/features.1", "backbone/features.1", "backbone/features.2", "head", "head", "others"),
    ]


def test_the_limit_is_products_or_bytes() -> None:
    assert PEAKS.limit("fp32", 2e9, 10) == 2
    assert PEAKS.limit("int8", 2e9, 10) == 0.5
    assert PEAKS.limit("fp32", 0, 1000) == 1e-6  # in the cache
    assert PEAKS.limit("fp32", 0, 2e6) == 2e-2  # beyond the largest copy: its speed


def test_the_worst_layers_are_those_with_most_time_above_their_limit() -> None:
    layers = [Layer(f"blocks.{k}/fc", f"blocks.{k}", "Gemm", "fp32", 1.0 + k, 500_000, 10) for k in range(12)]
    layers.append(Layer("blocks.0/scores", "blocks.0", "MatMul", "fp32", 5.0, 4_900_000, 10, attention=True))
    found = summarise(layers, 100.0, PEAKS)
    assert found["worst"] == [f"blocks.{k}/fc" for k in range(11, 11 - WORST, -1)]
    assert found["macs"] == 12 * 500_000
    assert found["attention_macs"] == 4_900_000
    assert found["sum_over_network"] == pytest.approx((sum(range(1, 13)) + 5) / 100)
    first = next(block for block in found["blocks"] if block["block"] == "blocks.0")
    assert (first["ms"], first["limit_ms"]) == (pytest.approx(6), pytest.approx(5.4))


def test_a_profile_counts_weights_that_were_packed(tmp_path: Path) -> None:
    def event(name: str, duration: int, op: str, inputs: list[object], out: list[int], index: int) -> dict:
        sizes = {"activation_size": "8", "parameter_size": "4", "output_size": "2", "node_index": str(index)}
        shapes = {"input_type_shape": inputs, "output_type_shape": [{"float": out}], "op_name": op}
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration, "args": {**sizes, **shapes}}

    events = [{"cat": "Session", "name": "model_run", "dur": 9}]
    for duration in (900, 20, 30, 40):  # the first is the warm-up's
        events.append(event("b.0/fc", duration, "Gemm", [{"float": [5, 3]}, {"float": [7]}], [5, 7], 0))
        events.append(event("b.0/q_token_3", 10, "QLinearConv", [{"uint8": [1, 2, 4, 4]}], [1, 2, 4, 4], 1))
    (tmp_path / "p.json").write_text(json.dumps(events))
    dense, conv = read_profile(tmp_path / "p.json", 3, {"b.0/q": 77})
    assert (dense.ms, dense.macs, dense.moved, dense.precision) == (0.03, 105, 8 + 4 + 2 + 4 * 21, "fp32")
    assert (conv.macs, conv.precision, conv.name) == (77, "int8", "b.0/q")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_layers_of_a_packaged_bundle_add_up_to_its_graph(tmp_path: Path, backend: str) -> None:
    """Every product of the graph is found in the engine's kernels, whatever it fused. ONNX Runtime pads the
    channels of four small convolutions to the width of its vectors."""
    bundle = open_bundle("jn-nano")
    write_clip(tmp_path / "clip.mp4", 4)
    engine = TimedEngine("e", str(bundle.path), str(tmp_path / "clip.mp4"), BOX, backend=backend, threads=1)
    profile = profile_engine(engine)
    found = summarise(profile.layers, profile.network_ms, PEAKS)
    fast = bundle.manifest["macs"]["fast"]
    assert fast <= found["macs"] <= (1.01 * fast if backend == "onnxruntime" else fast)
    everything = sum(graph_macs(bundle.graph("track", "fp32")).values())
    assert found["attention_macs"] == everything - fast
    assert {"blocks.0", "blocks.4", "head"} <= {block["block"] for block in found["blocks"]}
    assert found["sum_ms"] == pytest.approx(sum(layer["ms"] for layer in found["layers"]))
    assert found["network_ms"] > 0


def test_peaks_are_measured() -> None:
    peaks = measure_peaks(1)
    assert {"fp32", "int8"} <= peaks.macs.keys()
    assert all(speed > 1e8 for speed in peaks.macs.values())
    better = peaks.or_better(Peaks(1, {"fp32": 1e15}, peaks.bandwidth))
    assert better.macs == {**peaks.macs, "fp32": 1e15}
    sizes, speeds = np.array(peaks.bandwidth).T
    assert (np.diff(sizes) > 0).all()
    assert (speeds > 1e7).all()
