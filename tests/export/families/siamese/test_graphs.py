"""The graphs in ONNX Runtime and OpenVINO against the plain form and the golden vectors; their roles."""

from functools import cache

import numpy as np
import onnxruntime
import pytest

from jntrt.export.families.siamese.fast.graphs import build_graphs
from jntrt.export.onnx.roles import read_roles
from jntrt.export.rules import check_graph, count_macs

from .golden_siamese import HNE, NANOTRACK, hne_case, nanotrack_case, recipe_of, run_plain, weights_of

CASES = [(v, n) for v in NANOTRACK for n in (0, 1)] + [("hne", i) for i in range(len(HNE))]
LAST = {v: ("head/cls/logit", "head/reg/log_distance") for v in NANOTRACK}
LAST["hne"] = ("head/score", "head/centerness", "head/distance")
NAMES = [*NANOTRACK, "hne"]


@cache
def graphs_of(name, batch):
    return build_graphs(recipe_of(name), weights_of(name), batch)


def case_of(name, number):
    return hne_case(HNE[number]) if name == "hne" else nanotrack_case(name, number)


def onnxruntime_runner(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def openvino_runner(model):
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", hints)
    return lambda inputs: {o.get_any_name(): v for o, v in compiled(inputs).items()}


RUNNERS = {"onnxruntime": onnxruntime_runner, "openvino": openvino_runner}


def run(name, cases, engine):
    """box B×4 and score B of the cases as one batch."""
    template, track = graphs_of(name, len(cases))
    runner = RUNNERS[engine]
    memory = runner(template)({"template": np.concatenate([c.template for c in cases])})
    inputs = {
        "search": np.concatenate([c.search for c in cases]),
        "previous_size": np.concatenate([c.previous_size for c in cases]),
    }
    return runner(track)({**inputs, **memory})


@pytest.mark.parametrize("engine", RUNNERS)
@pytest.mark.parametrize(("name", "number"), CASES)
def test_one_target(name, number, engine):
    """Box in units of the crop."""
    case = case_of(name, number)
    got, want = run(name, [case], engine), run_plain(name, case)
    np.testing.assert_allclose(got["box"][0], want["box"], atol=2e-5)
    np.testing.assert_allclose(got["score"][0], want["score"], atol=2e-5)
    golden = case.expected["presence"] if name == "hne" else case.expected["step"]["score"]
    assert got["score"][0] == pytest.approx(float(golden), abs=5e-4 if name == "hne" else 1e-5)


@pytest.mark.parametrize("engine", RUNNERS)
@pytest.mark.parametrize("name", NAMES)
def test_two_targets_are_as_each_alone(name, engine):
    cases = [case_of(name, n) for n in (1, 0)]
    got = run(name, cases, engine)
    for row, case in enumerate(cases):
        want = run_plain(name, case)
        np.testing.assert_allclose(got["box"][row], want["box"], atol=2e-5)
        np.testing.assert_allclose(got["score"][row], want["score"], atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_graph_rules_hold(name):
    for batch in (1, 2):
        for graph in graphs_of(name, batch):
            check_graph(graph)


@pytest.mark.parametrize("name", NAMES)
def test_roles(name):
    """int8 is for convolutions of backbone and towers, not for the first and the last ones."""
    _, track = graphs_of(name, 1)
    roles = read_roles(track)
    kinds = {node.name: node.op_type for node in track.graph.node}
    first = next(node.name for node in track.graph.node if node.op_type == "Conv")
    made = {output: node for node in track.graph.node for output in node.output}
    score = made["head/score_map"]
    assert {kinds[n] for n in roles.int8} == {"Conv"}
    small = ("squeeze/", "attention/", "dw/")
    rest = {n for n, kind in kinds.items() if kind == "Conv" and not any(word in n for word in small)}
    assert set(roles.int8) == rest - {first, *LAST[name]}
    assert score.name in roles.float32
    assert {kinds[n] for n in roles.float32} >= {"Exp", "Sigmoid", "ArgMax", "Div", "Sqrt"}
    assert not set(roles.int8) & set(roles.float32)
    assert roles.kept == ()


@pytest.mark.parametrize(("name", "most"), [("v1", 68.4e6), ("v2", 75.4e6), ("v3", 94.2e6)])
def test_savings(name, most):
    """Multiply-accumulates of a frame; 69.1, 78.3 and 109.4 M in the published form."""
    assert count_macs(graphs_of(name, 1)[1]) < most
