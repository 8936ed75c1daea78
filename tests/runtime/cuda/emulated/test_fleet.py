"""Machines that share a cache by a key: what is built, gated and asked of the gate's child."""

import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_bundles import export_golden

from jntrt.export.cli import app
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.cuda.driver import Device
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.engines.tensorrt import gate as engine_gate

PASSED = {"passed": True, "text": "box 1.0e-06", "box": 1e-6}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_golden("jn256", tmp_path_factory.mktemp("bundles") / "jn")


def test_the_second_machine_builds_nothing(
    bundle: Bundle,
    tmp_path: Path,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(engine_gate, "_measure", lambda *_: asked.append("measured") or dict(PASSED))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    command = ["build", str(bundle.path), "--backend", "tensorrt-rtx", "--optimization-level", "0", "--json"]
    key = str(tmp_path / "fleet.key")
    built = []
    for machine in ("first", "second"):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / machine))
        monkeypatch.setattr(device, "info", replace(device.info, uuid=machine))
        assert run(app, [*command, "--engine-key", key]) == 0
        built.append([engine["path"] for engine in json.loads(capsys.readouterr().out)])
    assert built[0] == built[1]
    assert asked == ["measured"]
    assert len(list((tmp_path / "shared").rglob("*.engine"))) == 2
    assert not list(tmp_path.glob("*/jntrt/engine.key"))  # no machine needed a key of its own


def test_a_portable_engine_is_judged_on_each_model_of_gpu(
    bundle: Bundle, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    monkeypatch.setattr(engine_gate, "_measure", lambda *_: judged.append(device.info.name) or dict(PASSED))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    command = ["build", str(bundle.path), "--backend", "tensorrt-rtx", "--optimization-level", "0"]
    for name, capability in (("L4", (8, 9)), ("A10", (8, 6)), ("L4", (8, 9)), ("A10", (8, 6))):
        info = replace(device.info, name=name, compute_capability=capability)
        monkeypatch.setattr(device, "info", info)
        assert run(app, [*command, "--portable"]) == 0
    assert judged == ["L4", "A10"]
    assert len(list((tmp_path / "cache").rglob("*.engine"))) == 2


def test_the_gate_s_child_signs_with_the_same_key(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[EngineOptions] = []

    def check(_: Any, __: Any, ___: Any, options: EngineOptions, own: Any) -> dict[str, Any]:
        seen.append(options)
        return dict(PASSED)

    def child(command: Any, input: str, **_: Any) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        return subprocess.CompletedProcess(command, engine_gate.main(), json.dumps(PASSED), "")

    monkeypatch.setattr(engine_gate, "check", check)
    monkeypatch.setattr(engine_gate.subprocess, "run", child)
    given = EngineOptions(engine_key=tmp_path / "fleet.key")
    engine_gate._measure(bundle, find_precision("fp32"), "tensorrt-rtx", given)
    assert [options.engine_key for options in seen] == [given.engine_key]
