"""Reading and extending ONNX files by their bytes, against the onnx package."""

from pathlib import Path

import onnx
import pytest
from golden_bundles import golden_network

from jntrt.export.families.ostrack.fast.graphs import build_graphs
from jntrt.runtime.engines.graph.onnx_bytes import read_kept_names, read_nodes, with_outputs
from jntrt.runtime.errors import UserError


@pytest.fixture(scope="module")
def track() -> onnx.ModelProto:
    return build_graphs(*golden_network("jn256_ce"))[1]


def test_nodes_are_those_of_the_onnx_package(track: onnx.ModelProto) -> None:
    found = read_nodes(track.SerializeToString())
    assert [(n.op_type, n.name, list(n.inputs), list(n.outputs)) for n in found] == [
        (n.op_type, n.name, list(n.input), list(n.output)) for n in track.graph.node
    ]


def test_outputs_are_added(track: onnx.ModelProto, tmp_path: Path) -> None:
    names = ["blocks.1/ce/kept", "blocks.3/ce/kept"]
    (tmp_path / "more.onnx").write_bytes(with_outputs(track.SerializeToString(), names))
    more = onnx.load_model(tmp_path / "more.onnx")
    onnx.checker.check_model(more)
    assert [output.name for output in more.graph.output] == ["box", "score", *names]
    assert list(more.graph.node) == list(track.graph.node)
    with pytest.raises(UserError, match="no type for nowhere"):
        with_outputs(track.SerializeToString(), ["nowhere"])


def test_kept_sets_are_those_of_the_metadata(track: onnx.ModelProto) -> None:
    assert read_kept_names(track.SerializeToString()) == ["blocks.1/ce/kept", "blocks.3/ce/kept"]
    odd = onnx.ModelProto()
    odd.CopyFrom(track)
    onnx.helper.set_model_props(odd, {"other": "1"})
    assert read_kept_names(odd.SerializeToString()) == []
    for text in ("[", '{"blocks.1/ce/kept": 1}', "[1]", "[" * 100_000):
        onnx.helper.set_model_props(odd, {"jntrt.kept": text})
        with pytest.raises(UserError, match="no list of names"):
            read_kept_names(odd.SerializeToString())


def test_damaged_bytes_end_in_one_line(track: onnx.ModelProto) -> None:
    model = track.SerializeToString()
    for length in range(60, 4000, 37):
        with pytest.raises(UserError, match="damaged"):
            read_nodes(model[:length])
    with pytest.raises(UserError, match="damaged"):
        read_nodes(b"\xff" * 40)
