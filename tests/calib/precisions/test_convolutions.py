"""Precisions of a convolutional tracker: MobileNet's parts, a correlation, a decoding with a penalty."""

import collections
import json

import numpy as np
import onnx
import pytest
from jntrt.calib.gate.judge import centred_overlap
from jntrt.calib.graph.emulate import Emulator
from jntrt.calib.graph.view import GraphView
from jntrt.calib.precisions.candidate import make_candidate, observed_tensors, quantisable
from jntrt.calib.precisions.fp16 import float32_places
from jntrt.runtime.engines import openvino as openvino_backend
from jntrt.runtime.engines.onnxruntime import OnnxRuntime
from jntrt.runtime.engines.openvino import OpenVino
from onnx import TensorProto

from ..tiny_siamese import siamese_feeds, siamese_models

INPUTS = 8  # random pairs of crops that are compared


@pytest.fixture(scope="module")
def models():
    return siamese_models()


@pytest.fixture(scope="module")
def feeds(models):
    """Inputs of the track graph."""
    template = Emulator(models.template, threads=1)
    return [{**track, **template.run(first)} for first, track in map(siamese_feeds, range(INPUTS))]


@pytest.fixture(scope="module")
def ranges(models, feeds):
    found = collections.defaultdict(float)
    for given in feeds:
        for name, value in Emulator(models.track).run(given, observed_tensors(models)).items():
            found[name] = max(found[name], float(np.abs(value).max()))
    return dict(found)


def agreement(run, reference, feeds):
    """Overlaps and score differences of two networks on the same inputs."""
    pairs = [(run(given), reference(given)) for given in feeds]
    overlaps = [centred_overlap(a["box"], b["box"]) for a, b in pairs]
    return np.array(overlaps), np.array([abs(float(a["score"][0] - b["score"][0])) for a, b in pairs])


def test_the_emulation_computes_it(models, feeds, tmp_path):
    onnx.save(models.track, tmp_path / "track.onnx")
    engine = OnnxRuntime.open("fp32", 1)
    engine.load(tmp_path / "track.onnx")
    overlaps, scores = agreement(Emulator(models.track).run, engine.run, feeds)
    assert overlaps.min() > 0.9999
    assert scores.max() < 1e-5


@pytest.mark.parametrize("engine", [OnnxRuntime, OpenVino])
def test_int8_runs_in_int8_and_is_the_same_network(models, feeds, ranges, engine, tmp_path):
    model = make_candidate("int8", models, {}, ranges, weight_bits=7).models.track
    onnx.save(model, tmp_path / "track.onnx")
    backend = engine.open("int8", 1)
    backend.load(tmp_path / "track.onnx")  # ONNX Runtime's refuses where a layer runs in float
    wanted = sum(layer.quantisable for layer in quantisable(models))
    assert wanted == 8
    if engine is OnnxRuntime:
        assert backend.describe()["int8 layers"] == wanted
    overlaps, scores = agreement(backend.run, Emulator(model).run, feeds)
    assert np.median(overlaps) > 0.97
    assert scores.max() < 0.02
    overlaps, scores = agreement(backend.run, Emulator(models.track).run, feeds)
    assert np.median(overlaps) > 0.9
    assert 0 < scores.max() < 0.1


def test_openvino_runs_every_quantised_convolution_in_int8(models, ranges):
    model = make_candidate("int8", models, {}, ranges).models.track
    core = openvino_backend.core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    kinds = collections.Counter()
    for operation in compiled.get_runtime_model().get_ordered_ops():
        info = {key: str(getattr(v, "value", v)) for key, v in operation.get_rt_info().items()}
        if info.get("layerType") == "Convolution":
            kinds[info["runtimePrecision"] in ("i8", "u8")] += 1
    assert kinds[True] == sum(layer.quantisable for layer in quantisable(models))


def test_int8_stands_where_the_roles_say_and_convolutions_end_in_pairs(models, ranges):
    view = GraphView(make_candidate("int8", models, {}, ranges).models.track)
    roles = json.loads(next(e.value for e in view.model.metadata_props if e.key == "jntrt.int8"))
    made = {name: node.op_type for name, node in view.producer.items()}
    int8 = [n for n in view.nodes if n.op_type == "Conv" and made.get(n.input[1]) == "DequantizeLinear"]
    assert [node.name for node in int8] == roles
    for node in int8:
        assert made[node.input[0]] == "DequantizeLinear"
        (reader,) = view.readers[node.output[0]]
        if reader.op_type == "Relu":
            (reader,) = view.readers[reader.output[0]]
        assert reader.op_type == "QuantizeLinear"
        assert view.shapes[next(n for n in view.nodes if n.name == node.name).input[1]][0] > 1


def test_a_layer_that_is_kept_is_float_and_its_result_too(models, ranges):
    view = GraphView(make_candidate("int8", models, {}, ranges, ["block/project"]).models.track)
    (reader,) = view.readers["block/project"]
    assert reader.op_type == "Add"


@pytest.mark.parametrize("precision", ["fp16", "int8-fp16"])
def test_float16_leaves_the_decoding_alone(models, feeds, ranges, precision):
    made = make_candidate(precision, models, {}, ranges).models
    places = set(float32_places(made.track))
    roles = json.loads(next(e.value for e in made.track.metadata_props if e.key == "jntrt.float32"))
    assert {place for place in roles if place != "decode/best"} <= places
    assert not {place for place in places if not place.startswith(("decode/", "box", "score", "image/"))}
    view = GraphView(made.track)
    for node in view.nodes:
        if node.op_type in ("Conv", "HardSwish", "HardSigmoid", "GlobalAveragePool", "Clip"):
            assert {view.types[name] for name in node.input} == {TensorProto.FLOAT16}
    template = Emulator(made.template)
    halves = [{**given, **template.run(siamese_feeds(seed)[0])} for seed, given in enumerate(feeds)]
    exact = [Emulator(models.track).run(given) for given in feeds]
    overlaps = [
        centred_overlap(Emulator(made.track).run(given, check_finite=True)["box"], expected["box"])
        for given, expected in zip(halves, exact, strict=True)
    ]
    assert np.median(overlaps) > (0.995 if precision == "fp16" else 0.9)
