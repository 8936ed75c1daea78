"""Graphs written over `Value`: what the operators compute, how nodes are named, which roles they have."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from jntrt.export.onnx.layers import concat, convolution, correlation, layer_norm, linear, where
from jntrt.export.onnx.promote import promote
from jntrt.export.onnx.roles import Roles, read_roles
from jntrt.export.onnx.value import Value
from jntrt.export.onnx.writer import FLOAT, OnnxWriter
from jntrt.export.rules import graph_violations, layer_macs
from jntrt.runtime.errors import UserError

RNG = np.random.default_rng(11)
X = RNG.standard_normal((2, 6, 5, 7)).astype(np.float32) * 3
Y = RNG.standard_normal((2, 6, 5, 7)).astype(np.float32)
DENSE = RNG.standard_normal((4, 6, 3, 3)).astype(np.float32)
GROUPED = RNG.standard_normal((6, 2, 3, 3)).astype(np.float32)
DEPTHWISE = RNG.standard_normal((6, 1, 5, 5)).astype(np.float32)
BIAS = RNG.standard_normal(6).astype(np.float32)


def number(x: Value, value: float, name: str) -> Value:
    return x.graph.constant(np.float32(value), name)


def computed(function: Callable[[Value, Value], Value]) -> np.ndarray:
    """`function` of X and Y, written and run by ONNX Runtime."""
    graph = OnnxWriter("test", {}, allowed=["Exp"])
    x, y = graph.input("x", FLOAT, X.shape), graph.input("y", FLOAT, Y.shape)
    last = function(x, y)
    model = graph.model({})
    model.graph.output.append(onnx.ValueInfoProto(name=last.place))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    session = onnxruntime.InferenceSession(inferred.SerializeToString())
    return session.run([last.place], {"x": X, "y": Y})[0]


x, y = torch.from_numpy(X), torch.from_numpy(Y)
OPERATORS: dict[str, tuple[Callable[[Value, Value], Value], torch.Tensor]] = {
    "add": (lambda a, b: a + b, x + y),
    "subtract": (lambda a, b: a - b, x - y),
    "multiply": (lambda a, b: a * b, x * y),
    "divide": (lambda a, b: a / b, x / y),
    "matmul": (lambda a, b: a @ b.transpose(0, 1, 3, 2), x @ y.transpose(2, 3)),
    "maximum": (lambda a, b: a.maximum(b), torch.maximum(x, y)),
    "minimum": (lambda a, b: a.minimum(b), torch.minimum(x, y)),
    "where": (lambda a, b: where(a.equals(a.maximum(b)), a, b), torch.maximum(x, y)),
    "relu6": (lambda a, b: a.clip(number(a, 0, "low"), number(a, 6, "high")), F.relu6(x)),
    "relu": (lambda a, b: a.relu(), F.relu(x)),
    "gelu": (lambda a, b: a.gelu(), F.gelu(x)),
    "hard_swish": (lambda a, b: a.hard_swish(), F.hardswish(x)),
    "hard_sigmoid": (lambda a, b: a.hard_sigmoid(), F.hardsigmoid(x)),
    "sigmoid": (lambda a, b: a.sigmoid(), torch.sigmoid(x)),
    "exp": (lambda a, b: a.exp(), torch.exp(x)),
    "sqrt": (lambda a, b: (a * a).sqrt(), x.abs()),
    "softmax": (lambda a, b: a.softmax(1), torch.softmax(x, 1)),
    "mean": (lambda a, b: a.mean((2, 3)), x.mean((2, 3))),
    "mean_keeping": (lambda a, b: a.mean(-1, keepdims=True), x.mean(-1, keepdim=True)),
    "sum": (lambda a, b: a.sum(1), x.sum(1)),
    "product": (lambda a, b: a.product(3), x.prod(3)),
    "max": (lambda a, b: a.max((1, 2)), x.amax((1, 2))),
    "min": (lambda a, b: a.min(2), x.amin(2)),
    "pool": (lambda a, b: a.global_average_pool(), x.mean((2, 3), keepdim=True)),
    "argmax": (lambda a, b: a.argmax(1), x.argmax(1)),
    "top_k": (lambda a, b: a.top_k(2, 3, True, ("top", "at"))[0], x.topk(2, 3).values),
    "reshape": (lambda a, b: a.reshape(2, -1), x.reshape(2, -1)),
    "transpose": (lambda a, b: a.transpose(3, 0, 2, 1), x.permute(3, 0, 2, 1)),
    "split": (lambda a, b: a.split([2, 4], 1, ["s", "t"])[1], x[:, 2:]),
    "slice": (lambda a, b: a.slice(1, 4, axis=3), x[..., 1:4]),
    "crop": (lambda a, b: a.crop(1, 2, 3, 4), x[:, :, 1:4, 2:6]),
    "take": (lambda a, b: a.take(a.graph.integers([4, 0], "index"), axis=1), x[:, [4, 0]]),
    "concat": (lambda a, b: concat([a, b], 1), torch.cat((x, y), 1)),
    "layer_norm": (
        lambda a, b: layer_norm(a.transpose(0, 2, 3, 1), BIAS, BIAS, "norm"),
        F.layer_norm(x.permute(0, 2, 3, 1), [6], torch.from_numpy(BIAS), torch.from_numpy(BIAS), 1e-6),
    ),
    "linear": (
        lambda a, b: linear(a.transpose(0, 2, 3, 1), DENSE[:, :, 0, 0].T, BIAS[:4], "fc"),
        F.linear(
            x.permute(0, 2, 3, 1), torch.from_numpy(DENSE[:, :, 0, 0].copy()), torch.from_numpy(BIAS[:4])
        ),
    ),
    "convolution": (
        lambda a, b: convolution(a, DENSE, None, "conv", stride=2, padding=0),
        F.conv2d(x, torch.from_numpy(DENSE), stride=2),
    ),
    "grouped": (
        lambda a, b: convolution(a, GROUPED, BIAS, "conv", groups=3, dilation=2),
        F.conv2d(x, torch.from_numpy(GROUPED), torch.from_numpy(BIAS), padding=2, dilation=2, groups=3),
    ),
    "depthwise": (
        lambda a, b: convolution(a, DEPTHWISE, BIAS, "conv", groups=6),
        F.conv2d(x, torch.from_numpy(DEPTHWISE), torch.from_numpy(BIAS), padding=2, groups=6),
    ),
    "correlation": (
        lambda a, b: correlation(
            a.reshape(1, 12, 5, 7), b.crop(0, 0, 3, 3).reshape(12, 1, 3, 3, name="kernel"), "c", groups=12
        ),
        F.conv2d(x.reshape(1, 12, 5, 7), y[:, :, :3, :3].reshape(12, 1, 3, 3), groups=12),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_computes_what_pytorch_does(name: str) -> None:
    function, expected = OPERATORS[name]
    actual = computed(function)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected.numpy(), rtol=2e-5, atol=2e-5)


def small_graph() -> OnnxWriter:
    """A block with two Linears for int8, a product of activations, and a kept set."""
    kernel = np.eye(7, dtype=np.float32)
    graph = OnnxWriter("small", {"backbone.weight": kernel})
    x = graph.input("x", FLOAT, (3, 7))
    with graph.scope("blocks.0"):
        with graph.role("int8"), graph.scope("mlp"):
            z = (x @ graph.constant(kernel, "weight")).named("fc").gelu()
            z = (z @ z.transpose(1, 0, name="turn")).named("gram")
            with graph.role("float32"):
                z = z.softmax(-1)
            z = (z @ graph.constant(kernel[:3], "half")).named("second")
        x = (x + z).named("mlp")
    _, order = x.top_k(2, axis=1, ordered=False, names=("/top", "/kept"))
    order.marked("kept")
    graph.output(x.marked("interior").sqrt("/root"), "y", FLOAT, (3, 7))
    return graph


def test_names_follow_the_scopes() -> None:
    model = small_graph().model({"more": "said"})
    names = ["fc", "gelu", "turn", "gram", "softmax", "second"]
    assert [n.name for n in model.graph.node] == [
        *(f"blocks.0/mlp/{name}" for name in names),
        "blocks.0/mlp",
        "topk",
        "root",
    ]
    # A checkpoint's tensor keeps its name, a part of one is another tensor.
    assert {i.name for i in model.graph.initializer} == {"backbone.weight", "blocks.0/mlp/half", "top/k"}
    assert {p.key: p.value for p in model.metadata_props}["more"] == "said"


def test_roles_are_in_the_metadata() -> None:
    """Of what is written for int8, products with a constant count; the innermost role holds."""
    model = small_graph().model({})
    assert read_roles(model) == Roles(
        int8=("blocks.0/mlp/fc", "blocks.0/mlp/second"),
        float32=("blocks.0/mlp/softmax",),
        kept=("kept",),
        interior=("blocks.0/mlp",),
    )
    stored = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert stored["jntrt.int8"] == ["blocks.0/mlp/fc", "blocks.0/mlp/second"]
    assert stored["jntrt.allowed"] == []
    del model.metadata_props[:]
    assert read_roles(model) is None


def test_a_marked_tensor_that_becomes_an_output_keeps_its_role() -> None:
    graph = OnnxWriter("g", {})
    x = graph.input("x", FLOAT, (3,)).relu().marked("interior")
    graph.output(x, "memory", FLOAT, (3,))
    roles = read_roles(graph.model({}))
    assert roles is not None
    assert roles.interior == ("memory",)


@pytest.mark.parametrize("text", ["{", '"blocks.0"', "[1]", "[" * 100_000])
def test_odd_roles_are_refused(text: str) -> None:
    model = small_graph().model({"jntrt.int8": text})
    with pytest.raises(UserError, match=r"jntrt\.int8 in the graph's metadata is no list of names"):
        read_roles(model)
    assert any("no list of names" in violation for violation in graph_violations(model))


def test_mistakes_of_the_author_are_named() -> None:
    graph = small_graph()
    x = graph.input("again", FLOAT, (3, 7))
    first = x.relu()
    first.sigmoid()
    with pytest.raises(ValueError, match="relu is not what was written last: it cannot become late"):
        first.named("late")
    graph.constant(np.zeros(2), "table")
    with pytest.raises(ValueError, match="two different constants are named table"):
        graph.constant(np.ones(2), "table")
    x.relu()
    with pytest.raises(onnx.checker.ValidationError, match="relu"):
        graph.model({})


def test_promoted_tensors_are_outputs_once() -> None:
    model = small_graph().model({})
    more = promote(model, ["kept", "y", "kept"])
    assert [output.name for output in more.graph.output] == ["y", "kept"]
    assert [output.name for output in model.graph.output] == ["y"]
    del model.graph.value_info[:]
    assert promote(model, ["kept"]).graph.output[1] == more.graph.output[1]
    with pytest.raises(KeyError, match="nowhere"):
        promote(model, ["nowhere"])


def test_macs_of_groups_correlations_and_products() -> None:
    graph = OnnxWriter("g", {})
    x = graph.input("x", FLOAT, (1, 6, 8, 8))
    kernel = graph.input("kernel", FLOAT, (6, 1, 3, 3))
    convolution(x, GROUPED, None, "grouped", groups=3)
    convolution(x, DEPTHWISE, None, "depthwise", groups=6, stride=2)
    correlation(x, kernel, "correlation", groups=6)
    rows = x.reshape(6, 64)
    (rows @ rows.transpose(1, 0, name="turn")).named("attention")
    linear(rows, np.zeros((64, 5), np.float32), None, "linear")
    (graph.constant(np.zeros((5, 6), np.float32), "left") @ rows).named("from_the_left")
    assert layer_macs(graph.model({})) == {
        "grouped": 6 * 64 * 2 * 9,
        "depthwise": 6 * 16 * 25,
        "correlation": 6 * 36 * 9,
        "linear": 6 * 5 * 64,
        "from_the_left": 5 * 64 * 6,
    }
