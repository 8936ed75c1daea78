"""export-jn inspect and check: what a bundle says, and what is found wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime.bundle import Bundle

from .export_jn import export_jn, one_line


def test_inspect(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_jn("inspect", tiny_bundle) == 0
    told = capsys.readouterr().out
    for part in ("ostrack", "track.onnx", "tiny_good.pth.tar", "MACs", "fp32", "center"):
        assert part in told
    assert max(map(len, told.splitlines())) <= 80
    assert export_jn("inspect", tiny_bundle, "--json") == 0
    assert json.loads(capsys.readouterr().out)["family"] == "ostrack"


def test_inspect_of_a_bundle_that_lacks_what_is_optional(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "bundle.json").read_text())
    for key in ("macs", "source", "parity", "license", "weights"):
        manifest.pop(key)
    manifest["recipe"] = {}
    del manifest["precisions"]["fp32"]["check"]
    (tmp_path / "a" / "bundle.json").write_text(json.dumps(manifest))
    assert export_jn("inspect", tmp_path / "a") == 0
    capsys.readouterr()
    assert export_jn("check", tmp_path / "a") == 2
    assert "parity" in one_line(capsys)


def test_check_finds_what_is_wrong(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_jn("check", tiny_bundle) == 0
    assert "whole" in capsys.readouterr().out
    shutil.copytree(tiny_bundle, tmp_path / "a")
    graph = bytearray((tmp_path / "a" / "track.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (tmp_path / "a" / "track.onnx").write_bytes(graph)
    assert export_jn("check", tmp_path / "a") == 2
    assert "track.onnx" in one_line(capsys)


def test_check_refuses_other_outputs(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jntrt.runtime.bundle import write_bundle

    bundle = Bundle.open(tiny_bundle)
    with np.load(bundle.parity()) as stored:
        arrays = dict(stored)
    arrays["box"] = arrays["box"] + np.float32(1e-3)
    np.savez(tmp_path / "parity.npz", **arrays)
    files = {name: tiny_bundle / name for name in ("template.onnx", "track.onnx")}
    write_bundle(tmp_path / "a", bundle.manifest, {**files, "parity.npz": tmp_path / "parity.npz"})
    assert export_jn("check", tmp_path / "a") == 3
    assert "1.0e-03" in one_line(capsys)
    damaged = bytearray((tmp_path / "parity.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    write_bundle(tmp_path / "a", bundle.manifest, {**files, "parity.npz": bytes(damaged)})
    assert export_jn("check", tmp_path / "a") == 2
    assert "parity.npz" in one_line(capsys)
    arrays["search"] = arrays["search"][:, 1:]
    np.savez(tmp_path / "parity.npz", **arrays)
    write_bundle(tmp_path / "a", bundle.manifest, {**files, "parity.npz": tmp_path / "parity.npz"})
    assert export_jn("check", tmp_path / "a") == 2
    assert "parity.npz" in one_line(capsys)


def test_check_reads_the_graphs_as_a_stranger_s(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashes only say that the files are those of the manifest; both may come from anywhere."""
    import onnx

    from jntrt.runtime.bundle import write_bundle

    bundle = Bundle.open(tiny_bundle)
    files = {name: tiny_bundle / name for name in ("template.onnx", "track.onnx", "parity.npz")}
    model = onnx.load_model(tiny_bundle / "track.onnx")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    whole = (tiny_bundle / "track.onnx").read_bytes()
    node = onnx.load_model_from_string(whole).graph.node[0]
    name, operator = node.name.encode(), node.op_type.encode()
    for data in (
        b"no graph",
        model.SerializeToString(),
        whole.replace(name, b"\xff" * len(name)),
        whole.replace(operator, b"\n" * len(operator)),
        onnx.ModelProto().SerializeToString() or b"\x08\x0a",
    ):
        write_bundle(tmp_path / "a", bundle.manifest, {**files, "track.onnx": data})
        assert export_jn("check", tmp_path / "a") == 2
        assert "track.onnx" in one_line(capsys)
