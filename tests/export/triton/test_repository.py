"""The model repository: exact shapes, a tracker that is whole, and what is refused."""

import re
from pathlib import Path

import pytest

from jntrt.export.cli import app
from jntrt.export.triton.repository import write_repository
from jntrt.export.triton.serving import Serving
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError


def test_the_networks_have_the_bundle_s_shapes(tmp_path: Path) -> None:
    bundle = open_bundle("nanotrack-v3")
    assert write_repository(bundle, tmp_path / "r", Serving(instances=3)) == [
        "jntrt_template",
        "jntrt_track",
        "jntrt_tracker",
    ]
    types = {"uint8": "UINT8", "float32": "FP32"}
    for graph in ("template", "track"):
        config = (tmp_path / "r" / f"jntrt_{graph}" / "config.pbtxt").read_text()
        for kind in ("inputs", "outputs"):
            found = re.findall(rf'^{kind[:-1]} .*name: "(\w+)".*TYPE_(\w+) dims: \[ (.*) \]', config, re.M)
            entries = [entry for entry in bundle.manifest[kind] if entry["graph"] == graph]
            assert sorted(found) == sorted(
                (entry["name"], types[entry["dtype"]], ", ".join(map(str, entry["shape"])))
                for entry in entries
            )
        assert 'platform: "onnxruntime_onnx"' in config
        assert "kind: KIND_CPU count: 3" in config
        model = tmp_path / "r" / f"jntrt_{graph}" / "1" / "model.onnx"
        assert model.read_bytes() == bundle.graph(graph, "fp32").read_bytes()


def test_the_tracker_brings_its_bundle_and_survives_a_paused_camera(tmp_path: Path) -> None:
    words = ["triton", "nanotrack-v3", "-o", str(tmp_path / "r"), "--only-tracker", "--idle", "120"]
    assert run(app, [*words, "--streams", "5"]) == 0
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["jntrt_tracker"]
    folder = tmp_path / "r" / "jntrt_tracker"
    open_bundle(str(folder / "1" / "bundle")).verify()
    config = (folder / "config.pbtxt").read_text()
    assert "max_sequence_idle_microseconds: 120000000" in config
    assert "max_candidate_sequences: 6" in config
    compile((folder / "1" / "model.py").read_text(), "model.py", "exec")


def test_plans_of_the_server_s_tensorrt(tmp_path: Path) -> None:
    plans = tmp_path / "plans"
    plans.mkdir()
    (plans / "template.plan").write_bytes(b"t")
    bundle = open_bundle("nanotrack-v3")
    with pytest.raises(UserError, match=r"track\.plan: no such plan"):
        write_repository(bundle, tmp_path / "r", Serving(plans=plans))
    assert [path.name for path in tmp_path.iterdir()] == ["plans"]  # nothing half made
    (plans / "track.plan").write_bytes(b"u")
    write_repository(bundle, tmp_path / "r", Serving(plans=plans))
    assert (tmp_path / "r" / "jntrt_track" / "1" / "model.plan").read_bytes() == b"u"
    config = (tmp_path / "r" / "jntrt_track" / "config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"' in config
    assert "KIND_GPU" in config


def test_what_cannot_be_served(tmp_path: Path) -> None:
    bundle = open_bundle("nanotrack-v3")
    with pytest.raises(UserError, match="exists already"):
        write_repository(bundle, tmp_path, Serving())
    with pytest.raises(UserError, match="int8"):
        write_repository(bundle, tmp_path / "r", Serving(precision="int8"))
    for wrong, told in (
        ({"threads": 0}, "--threads 0"),
        ({"idle": -1.0}, "--idle -1"),
        ({"networks": "theirs"}, "choose own or served"),
        ({"only_tracker": True, "networks": "served"}, "--only-tracker"),
    ):
        with pytest.raises(UserError, match=told):
            Serving(**wrong)  # type: ignore[arg-type]
