"""Precisions of a convolutional tracker: MobileNet's parts, a correlation, a decoding with a penalty."""

import collections

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from jntrt.calib.graph.emulate import Emulator
from jntrt.calib.graph.engine import open_graph
from jntrt.calib.graph.roles import roles_of
from jntrt.calib.graph.view import GraphView
from jntrt.calib.precisions.candidate import make_candidate, observed_tensors, quantisable
from jntrt.calib.precisions.fp16 import float32_places
from jntrt.export.onnx.promote import promote
from jntrt.runtime.engines import openvino as openvino_backend
from jntrt.runtime.engines.onnxruntime import OnnxRuntime
from jntrt.runtime.engines.openvino import OpenVino
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision

from ..tiny_siamese import siamese_feeds, siamese_models

MAPS = ("decode/score", "decode/size")  # of all cells: the arg-max among random ones may fall on any
LIMITS = {"fp16": 0.005, "int8": 0.25, "int8-fp16": 0.25}


@pytest.fixture(scope="module")
def models():
    return siamese_models()


@pytest.fixture(scope="module")
def feeds(models):
    """Inputs of the track graph."""
    template = Emulator(models.template, threads=1)
    return [{**track, **template.run(first)} for first, track in map(siamese_feeds, range(6))]


@pytest.fixture(scope="module")
def ranges(models, feeds):
    found = collections.defaultdict(float)
    for given in feeds:
        for name, value in Emulator(models.track).run(given, observed_tensors(models)).items():
            found[name] = max(found[name], float(np.abs(value).max()))
    return dict(found)


def errors(run, reference, feeds):
    """RMS differences of both maps in units of the maps' own standard deviation: the worst of the inputs."""
    found = []
    for given in feeds:
        for name in MAPS:
            a, b = run(given)[name], reference(given)[name]
            found.append(float(np.sqrt(np.mean((a - b) ** 2)) / b.std()))
    return max(found)


def emulated(model):
    emulator = Emulator(model)
    return lambda given: emulator.run(given, MAPS, check_finite=True)


def test_the_emulation_computes_it(models, feeds):
    engine = open_graph(promote(models.track, MAPS))
    assert errors(emulated(models.track), engine.run, feeds) < 1e-5


@pytest.mark.parametrize("engine", [OnnxRuntime, OpenVino])
def test_int8_runs_in_int8_and_is_the_same_network(models, feeds, ranges, engine, tmp_path):
    model = make_candidate("int8", models, {}, ranges, weight_bits=7).models.track
    onnx.save(promote(model, MAPS), tmp_path / "track.onnx")
    # ONNX Runtime's refuses where a layer runs in float.
    backend = engine(tmp_path / "track.onnx", find_precision("int8"), EngineOptions(1))
    if engine is OnnxRuntime:
        wanted = [layer.name for layer in quantisable(models) if layer.quantisable]
        assert backend.describe()["int8 layers"] == len(wanted) == 8
    assert errors(backend.run, emulated(model), feeds) < LIMITS["int8"]
    assert 0.01 < errors(backend.run, emulated(models.track), feeds) < LIMITS["int8"]


def test_openvino_runs_every_quantised_convolution_in_int8(models, ranges):
    model = make_candidate("int8", models, {}, ranges).models.track
    core = openvino_backend.core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    count = collections.Counter()
    for operation in compiled.get_runtime_model().get_ordered_ops():
        info = {key: str(getattr(v, "value", v)) for key, v in operation.get_rt_info().items()}
        if info.get("layerType") == "Convolution":
            count[info["runtimePrecision"] in ("i8", "u8")] += 1
    assert count[True] == sum(layer.quantisable for layer in quantisable(models))


def test_int8_stands_where_the_roles_say_and_convolutions_end_in_pairs(models, ranges):
    view = GraphView(make_candidate("int8", models, {}, ranges).models.track)
    made = {name: node.op_type for name, node in view.producer.items()}
    int8 = [n for n in view.nodes if n.op_type == "Conv" and made.get(n.input[1]) == "DequantizeLinear"]
    assert [node.name for node in int8] == list(roles_of(models.track).int8)
    for node in int8:
        assert made[node.input[0]] == "DequantizeLinear"
        (reader,) = view.readers[node.output[0]]
        if reader.op_type == "Relu":
            (reader,) = view.readers[reader.output[0]]
        assert reader.op_type == "QuantizeLinear"


def test_a_layer_that_is_kept_is_float_and_its_result_too(models, ranges):
    view = GraphView(make_candidate("int8", models, {}, ranges, ["block/project"]).models.track)
    assert [reader.op_type for reader in view.readers["block/project"]] == ["Add"]


@pytest.mark.parametrize("precision", ["fp16", "int8-fp16"])
def test_float16_leaves_the_decoding_alone(models, feeds, ranges, precision):
    made = make_candidate(precision, models, {}, ranges).models
    places = set(float32_places(made.track))
    integers = {"decode/argmax", "decode/best"}
    assert set(roles_of(made.track).float32) - integers <= places
    assert {place.partition("/")[0] for place in places} <= {"decode", "box", "score", "head"}
    view = GraphView(made.track)
    for node in view.nodes:
        if node.op_type in ("Conv", "HardSwish", "HardSigmoid", "GlobalAveragePool", "MaxPool", "Clip"):
            assert {view.types[name] for name in node.input} == {TensorProto.FLOAT16}
    template = emulated_template(made.template)
    halves = [{**given, **template(seed)} for seed, given in enumerate(feeds)]
    exact = {id(half): emulated(models.track)(given) for half, given in zip(halves, feeds, strict=True)}
    assert errors(emulated(made.track), lambda half: exact[id(half)], halves) < LIMITS[precision]


def emulated_template(model):
    emulator = Emulator(model)
    return lambda seed: emulator.run(siamese_feeds(seed)[0], check_finite=True)
