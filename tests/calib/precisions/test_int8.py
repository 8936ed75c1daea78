"""int8 graphs: where the Q/DQ pairs stand, and that every engine runs all of them in int8."""

import collections

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from jntrt.calib.graph.emulate import Emulator
from jntrt.calib.graph.engine import open_graph
from jntrt.calib.graph.layers import find_layers, int8_share
from jntrt.calib.graph.view import GraphView
from jntrt.calib.precisions.candidate import make_candidate, observed_tensors, quantisable
from jntrt.calib.precisions.int8 import quantise, quantise_weight, split_branches
from jntrt.runtime.engines import cpu
from jntrt.runtime.engines import onnxruntime as onnxruntime_backend
from jntrt.runtime.engines import openvino as openvino_backend
from jntrt.runtime.engines.cpu import saturates_int8
from jntrt.runtime.engines.graph import int8_graph
from jntrt.runtime.engines.onnxruntime import OnnxRuntime
from jntrt.runtime.engines.openvino import OpenVino
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import UserError

from ..tiny_tracker import feeds, tiny_models, tiny_recipe

KINDS = [("center", True), ("center", False), ("distribution", True), ("distribution", False)]


def ranges_of(models):
    """Min-max ranges of one random input, and the feeds of the track graph."""
    template, search = feeds(models)
    given = {**search, **Emulator(models.template, threads=1).run(template)}
    seen = Emulator(split_branches(models.track)).run(given, observed_tensors(models))
    return {name: float(np.abs(value).max()) for name, value in seen.items()}, given


def optimised(model: bytes, path, **options) -> bytes:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(path)
    ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"], **options)
    return path.read_bytes()


@pytest.mark.parametrize(("head", "eliminate"), KINDS)
def test_onnx_runtime_runs_every_quantised_layer_in_int8(head, eliminate, tmp_path):
    models = tiny_models(tiny_recipe(head, eliminate))
    ranges, given = ranges_of(models)
    model = make_candidate("int8", models, {}, ranges, weight_bits=7).models.track
    wanted = {place.name for place in quantisable(models) if place.quantisable}
    onnx.save(model, tmp_path / "track.onnx")
    backend = OnnxRuntime(tmp_path / "track.onnx", find_precision("int8"), EngineOptions(1))
    assert backend.describe()["int8 layers"] == len(wanted) >= 20
    assert backend.describe()["weight bits"] == 7
    # The engine's int8 numbers are those that the graph says; 7-bit weights cannot saturate.
    outputs, said = backend.run(given), Emulator(model).run(given)
    np.testing.assert_allclose(outputs["box"], said["box"], atol=2e-2)
    np.testing.assert_allclose(outputs["score"], said["score"], atol=2e-2)


@pytest.mark.parametrize(("head", "eliminate"), KINDS)
def test_openvino_runs_every_quantised_layer_in_int8(head, eliminate):
    models = tiny_models(tiny_recipe(head, eliminate))
    model = make_candidate("int8", models, {}, ranges_of(models)[0]).models.track
    core = openvino_backend.core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    count = collections.Counter()
    for operation in compiled.get_runtime_model().get_ordered_ops():
        info = {key: str(getattr(v, "value", v)) for key, v in operation.get_rt_info().items()}
        if info.get("layerType") in ("FullyConnected", "Convolution", "MatMul"):
            count[info["runtimePrecision"] in ("i8", "u8")] += 1
    assert count[True] == sum(place.quantisable for place in quantisable(models))


def test_fusing_the_bias_is_the_cliff_that_the_backend_refuses(tmp_path):
    models = tiny_models(tiny_recipe())
    model = make_candidate("int8", models, {}, ranges_of(models)[0]).models.track.SerializeToString()
    wanted = int8_graph.quantised_layers(int8_graph.read_nodes(model))
    left = int8_graph.float_layers(wanted, optimised(model, tmp_path / "a.onnx"))
    assert len(left) > 10
    unsigned = int8_graph.unsigned_activations(model)
    kept = optimised(unsigned, tmp_path / "b.onnx", disabled_optimizers=["MatMulAddFusion"])
    assert int8_graph.float_layers(wanted, kept) == []


def test_the_backend_refuses_a_session_with_float_layers(tmp_path, monkeypatch):
    models = tiny_models(tiny_recipe())
    onnx.save(make_candidate("int8", models, {}, ranges_of(models)[0]).models.track, tmp_path / "t.onnx")
    monkeypatch.setattr(int8_graph, "INT8_KERNELS", ("QLinearConv",))
    with pytest.raises(UserError, match="int8 layers in float"):
        OnnxRuntime(tmp_path / "t.onnx", find_precision("int8"), EngineOptions(1))
    with pytest.raises(UserError, match=r"^the int8 track graph: ONNX Runtime runs .*; --keep LAYER leaves"):
        open_graph(onnx.load(tmp_path / "t.onnx"), "int8", 1)


@pytest.mark.parametrize(("head", "eliminate"), KINDS)
def test_pairs_stand_before_linears_only(head, eliminate):
    models = tiny_models(tiny_recipe(head, eliminate))
    model = make_candidate("int8", models, {}, ranges_of(models)[0]).models.track
    view = GraphView(model)
    for node in view.nodes:
        if node.op_type == "DequantizeLinear":
            assert {reader.op_type for reader in view.readers[node.output[0]]} <= {"MatMul", "Conv"}
        if node.op_type == "QuantizeLinear":
            assert view.constants[node.input[2]].dtype == np.int8
            assert view.constants[node.input[2]] == 0
            assert view.constants[node.input[1]].shape == ()
        if node.op_type == "Add" and node.input[1] in view.constants:
            assert view.constants[node.input[1]].dtype != np.int8
        if node.op_type in ("Softmax", "LayerNormalization", "Gelu"):
            makers = [view.producer[name].op_type for name in node.input if name in view.producer]
            assert "DequantizeLinear" not in makers
    left = [n.name for n in view.nodes if n.op_type in ("MatMul", "Conv") and n.input[1] in view.constants]
    assert {name.rpartition("/")[2] for name in left if "quality" not in name} <= {
        "conv5",  # logits
        "expected",  # decoding
        "reach",
        "matmul",  # the patch embedding
    }
    assert [name for name in left if name.endswith("/matmul") and "quality" not in name] == [
        "search_embed/matmul"
    ]


def test_the_flavour_for_tensorrt_casts_around_float32_scales():
    models = tiny_models(tiny_recipe())
    ranges, _ = ranges_of(models)
    candidate = make_candidate("int8-fp16", models, {}, ranges)
    view = GraphView(candidate.models.track)
    for node in view.nodes:
        if node.op_type == "QuantizeLinear":
            assert view.types[node.input[1]] == TensorProto.FLOAT
            # A Q takes float16 through a Cast, or a value that is float32 by itself.
            assert view.types[node.input[0]] == TensorProto.FLOAT
        if node.op_type == "DequantizeLinear":
            assert view.types[node.output[0]] == TensorProto.FLOAT
            assert {r.op_type for r in view.readers[node.output[0]]} == {"Cast"}
        if node.op_type in ("MatMul", "Conv"):
            assert {view.types[name] for name in node.input} == {TensorProto.FLOAT16}
    template, search = feeds(models)
    memory = Emulator(candidate.models.template).run(template)
    outputs = Emulator(candidate.models.track).run({**search, **memory}, check_finite=True)
    assert np.isfinite(outputs["box"]).all()


def test_a_convolution_split_between_branches_is_the_same_network():
    models = tiny_models(tiny_recipe(eliminate=False))
    split = split_branches(models.track)
    template, search = feeds(models)
    given = {**search, **Emulator(models.template).run(template)}
    before, after = Emulator(models.track).run(given), Emulator(split).run(given)
    np.testing.assert_allclose(after["box"], before["box"], atol=1e-4)
    names = [place.name for place in find_layers(GraphView(split))]
    assert "head/cls/conv1" in names
    assert "head/conv1" not in names


def test_unsigned_activations_are_the_same_numbers(tmp_path):
    models = tiny_models(tiny_recipe(eliminate=False))
    ranges, given = ranges_of(models)
    model = make_candidate("int8", models, {}, ranges, weight_bits=7).models.track.SerializeToString()
    changed = int8_graph.unsigned_activations(model)
    assert len(changed) == len(model)
    assert sum(a != b for a, b in zip(model, changed, strict=True)) == 3  # two types, one zero point
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs = [ort.InferenceSession(m, settings).run(["box"], given)[0] for m in (model, changed)]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5)


def test_a_graph_without_int8_comes_back_as_it_is():
    model = tiny_models(tiny_recipe()).track.SerializeToString()
    assert int8_graph.unsigned_activations(model) == model
    assert int8_graph.quantised_layers(int8_graph.read_nodes(model)) == []
    assert int8_graph.weight_bits(model) == 8


@pytest.mark.parametrize("cut", [1, 7, 1000, -1])
def test_damaged_bytes_are_an_error(cut):
    model = tiny_models(tiny_recipe()).template.SerializeToString()
    with pytest.raises(UserError, match="damaged"):
        int8_graph.read_nodes(model[:cut] + b"\x3a\xff\xff\xff\x7f")


def test_layers_can_be_kept_and_the_share_says_how_much_is_left():
    models = tiny_models(tiny_recipe())
    ranges, _ = ranges_of(models)
    places = quantisable(models)
    names = {place.name for place in places if place.quantisable}
    model = make_candidate("int8", models, {}, ranges, ["blocks.2/mlp/fc1"]).models.track
    layers = int8_graph.quantised_layers(int8_graph.read_nodes(model.SerializeToString()))
    assert len(layers) == len(names) - 1
    assert "blocks.2/mlp/fc1/matmul" not in layers
    assert int8_share(places, names) > int8_share(places, names - {"blocks.2/mlp/fc1"}) > 0
    with pytest.raises(UserError, match=r"--keep blocks\.99/mlp/fc1: no such layer"):
        quantise(models.track, ranges, ["blocks.99/mlp/fc1"])


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_range_must_be_a_positive_number(value):
    models = tiny_models(tiny_recipe())
    ranges, _ = ranges_of(models)
    ranges["blocks.1/norm2"] = value
    with pytest.raises(UserError, match=r"range of blocks\.1/norm2"):
        quantise(models.track, ranges)
    del ranges["blocks.1/norm2"]
    with pytest.raises(UserError, match=r"none for blocks\.1/norm2"):
        quantise(models.track, ranges)


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_weights_are_within_half_a_step(bits, axis):
    weight = np.random.default_rng(0).normal(size=(24, 40)).astype(np.float32)
    if axis == 0:
        weight[3] = 0
    levels, scale = quantise_weight(weight, axis, bits)
    shape = (-1, 1) if axis == 0 else (1, -1)
    error = np.abs(levels * scale.reshape(shape) - weight)
    assert (error <= scale.reshape(shape) * 0.5001).all()
    assert np.abs(levels.astype(int)).max() == 2 ** (bits - 1) - 1
    assert scale.dtype == np.float32


@pytest.mark.parametrize("backend", [OnnxRuntime, OpenVino])
@pytest.mark.parametrize("bits", [7, 8])
def test_a_processor_without_vnni_is_told_of_7_bit_weights(backend, bits, tmp_path, monkeypatch, caplog):
    for module in (onnxruntime_backend, openvino_backend):
        monkeypatch.setattr(module, "saturates_int8", lambda: True)
    onnxruntime_backend._say_once.cache_clear()
    openvino_backend._warn_of_saturation.cache_clear()
    models = tiny_models(tiny_recipe())
    model = make_candidate("int8", models, {}, ranges_of(models)[0], weight_bits=bits).models.track
    onnx.save(model, tmp_path / "track.onnx")
    with caplog.at_level("WARNING"):
        backend(tmp_path / "track.onnx", find_precision("int8"), EngineOptions(1))
    assert ("--weight-bits 7" in caplog.text) == (bits == 8)


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", "sse avx2", True),
        ("x86_64", "avx2 avx_vnni", False),
        ("x86_64", "avx512f avx512_vnni", False),
        ("x86_64", "", False),
        ("aarch64", "asimd", False),
    ],
)
def test_saturation_is_read_from_the_processor(machine, flags, saturates, monkeypatch):
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu, "features", lambda: frozenset(flags.split()))
    assert saturates_int8.__wrapped__() is saturates


def test_a_product_of_two_activations_is_no_int8_layer():
    """Its second factor may be an activation that others read as int8; weights are constants."""
    rows = [
        ("QuantizeLinear", "q", ("x", "x/scale", "zero"), ("levels",)),
        ("DequantizeLinear", "dq", ("levels", "x/scale", "zero"), ("x/again",)),
        ("DequantizeLinear", "w", ("weight/levels", "weight/scale"), ("weight",)),
        ("Conv", "layer", ("x/again", "weight"), ("y",)),
        ("MatMul", "product", ("memory", "x/again"), ("z",)),
    ]
    assert int8_graph.quantised_layers([int8_graph.Node(*row) for row in rows]) == ["layer"]
