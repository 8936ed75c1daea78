"""Graphs that no engine may see: each is refused in one line before an engine opens the file."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from jntrt.runtime.bundle import default_bundle
from jntrt.runtime.bundle.manifest import GRAPHS
from jntrt.runtime.engines import backend_class
from jntrt.runtime.engines.graph.graph_check import check_graph_bytes, check_graph_file
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import UserError

ENGINES = ("onnxruntime", "openvino")
FLOATS = np.arange(4, dtype=np.float32)


def model() -> onnx.ModelProto:
    """y = x + w of four floats."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], FLOATS.tobytes(), raw=True)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], name="sum")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def external(m: onnx.ModelProto) -> None:
    weight = m.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "weights.bin"


def external_constant(m: onnx.ModelProto) -> None:
    constant = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4])
    entry = constant.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    m.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=constant))


def function(m: onnx.ModelProto) -> None:
    node = helper.make_node("Relu", ["a"], ["b"])
    m.functions.append(helper.make_function("", "F", ["a"], ["b"], [node], m.opset_import))


def loop(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Loop", ["", "", "y"], ["z"], body=m.graph))


def branch_in_disguise(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Relu", ["y"], ["z"], body=m.graph))


def domain(m: onnx.ModelProto) -> None:
    m.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def node_domain(m: onnx.ModelProto) -> None:
    m.graph.node[0].domain = "com.microsoft"


def string_output(m: onnx.ModelProto) -> None:
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def sequence_output(m: onnx.ModelProto) -> None:
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [4])
    m.graph.output.append(helper.make_value_info("s", helper.make_sequence_type_proto(element)))


def odd_output(m: onnx.ModelProto) -> None:
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.COMPLEX64


def untyped_output(m: onnx.ModelProto) -> None:
    m.graph.output[0].ClearField("type")


def open_shape(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"


def huge_input(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40


def huge_tensor(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]


def escape(m: onnx.ModelProto) -> None:
    m.graph.node[0].name = "sum\x1b]0;owned\x07"


def extra_line(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].name = m.graph.node[0].input[1] = "w\ntrtrun: all is well"


def sparse(m: onnx.ModelProto) -> None:
    m.graph.sparse_initializer.add().dims.append(4)


def unrecorded(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))


def huge_interior(m: onnx.ModelProto) -> None:
    unrecorded(m)
    m.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1 << 20, 1 << 20]))


def computed_shape(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Expand", ["y", "x"], ["z"], name="grow"))
    m.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [4]))


def endless_products(m: onnx.ModelProto) -> None:
    """A few hundred bytes that ask for 2^43 multiply-accumulates, with no tensor above 256 MB."""
    side = 1 << 13
    m.graph.input.append(helper.make_tensor_value_info("p0", TensorProto.FLOAT, [side, side]))
    for n in range(16):
        m.graph.node.append(helper.make_node("MatMul", [f"p{n}", "p0"], [f"p{n + 1}"]))
        m.graph.value_info.append(helper.make_tensor_value_info(f"p{n + 1}", TensorProto.FLOAT, [side, side]))


def endless_convolution(m: onnx.ModelProto) -> None:
    """One node: a kernel as large as its picture, 2^46 multiply-accumulates."""
    sides = [1, 1, 1 << 12, 1 << 12]
    m.graph.input.append(helper.make_tensor_value_info("c0", TensorProto.FLOAT, sides))
    half = 1 << 11
    m.graph.node.append(helper.make_node("Conv", ["c0", "c0"], ["c1"], pads=[half, half, half - 1, half - 1]))
    m.graph.value_info.append(helper.make_tensor_value_info("c1", TensorProto.FLOAT, sides))


CHANGES: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (external, "external data"),
    (external_constant, "external data"),
    (function, "functions"),
    (loop, "Loop"),
    (branch_in_disguise, "graph within a node"),
    (domain, "domain 'com.microsoft'"),
    (node_domain, "domain 'com.microsoft'"),
    (string_output, "'y' is of a type"),
    (sequence_output, "'s' is no tensor"),
    (odd_output, "'y' is of a type"),
    (untyped_output, "'y' has no type"),
    (open_shape, "'x' has no fixed"),
    (huge_input, "'x' has no fixed"),
    (huge_tensor, "fewer numbers than its shape"),
    (escape, "cannot be printed"),
    (extra_line, "cannot be printed"),
    (sparse, "sparse"),
    (unrecorded, "not record the shape of 'z'"),
    (huge_interior, "'z' is too large"),
    (computed_shape, "'grow' depends on what it computes"),
    (endless_products, "it computes too much"),
    (endless_convolution, "it computes too much"),
]


@pytest.mark.parametrize(("change", "complaint"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("name", ENGINES)
def test_no_engine_sees_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[onnx.ModelProto], None],
    complaint: str,
) -> None:
    (tmp_path / "weights.bin").write_bytes(FLOATS.tobytes())  # where ONNX Runtime would have looked
    monkeypatch.chdir(tmp_path)
    changed = model()
    change(changed)
    (tmp_path / "m.onnx").write_bytes(changed.SerializeToString())
    bundle: Any = SimpleNamespace(graph=lambda *_: tmp_path / "m.onnx")
    with pytest.raises(UserError, match=f"refuses the graph: .*{complaint}") as caught:
        backend_class(name).open(bundle, find_precision("fp32"), EngineOptions(1))
    assert str(caught.value).isprintable()


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    content = model().SerializeToString().replace(b"sum", b"\xff\xfe\xfd")
    with pytest.raises(UserError, match="a name that is no text"):
        check_graph_bytes(content, "m.onnx")


def test_many_small_parts_are_not_read_to_the_end() -> None:
    content = model().SerializeToString() + b"\x08\x09" * 3_000_000
    with pytest.raises(UserError, match="too many parts"):
        check_graph_bytes(content, "m.onnx")


def test_what_the_exporter_writes_passes(tmp_path: Path) -> None:
    bundle = default_bundle()
    for graph in GRAPHS:
        check_graph_file(bundle.graph(graph, "fp32"))
    check_graph_bytes(model().SerializeToString(), "m.onnx")
    for content in (b"", b"not a graph"):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.onnx"):
            check_graph_file(tmp_path / "bad.onnx")
