"""bench/gpu/check.py on the emulated device: that it runs and compares, not what it measures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden

from jntrt.bench.gpu import check as gpu_check
from jntrt.bench.gpu.check import Variant
from jntrt.bench.gpu.kernels import check_box, check_crop
from jntrt.bench.gpu.rows import EAGER, Row, aims
from jntrt.runtime import engines
from jntrt.runtime.bundle.packaged import packaged_names
from jntrt.runtime.cuda.driver import Device


def test_the_kernels_are_compared(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_crop(device, 20) == "equal in 20 frames"
    assert check_box(device, 100) == "equal for 200 boxes"

    def black(frame: Any, rectangle: Any, size: int, **_: Any) -> np.ndarray:
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr("jntrt.bench.gpu.kernels.crop", black)
    monkeypatch.setattr("jntrt.bench.gpu.kernels.box_to_frame", lambda *_: (1.0, 2.0, 3.0, 4.0))
    assert check_crop(device, 1).endswith("bytes differ")
    assert check_box(device, 10).endswith("numbers differ")


@pytest.fixture
def checked(host_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, in a working folder of its own, with an engine that the emulated device runs."""
    monkeypatch.setattr(gpu_check, "VARIANTS", (Variant("host"), Variant("host", "own graph")))
    monkeypatch.setattr(gpu_check, "backend_class", engines.backend_class)
    monkeypatch.setattr(gpu_check, "check_crop", lambda _: "equal")
    monkeypatch.setattr(gpu_check, "check_box", lambda _: "equal")

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["gpu_check", "--work", str(tmp_path / "work"), *words])
        return gpu_check.main()

    return run


def test_the_whole_table(
    checked: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = export_golden("jn256", tmp_path / "jn").path
    words = [str(bundle), "--calls", "2", "--engine", "host"]
    assert checked(*words, "--json") == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    assert [row["engine"] for row in rows] == ["host fp32", "host fp32, own graph"]
    for row in rows:
        assert row["launch"] == "graph"
        assert row["worst_px"] == 0.0
        assert all(0 < p50 <= p99 for p50, p99 in row["times"])
    assert checked(*words) == 0
    out = capsys.readouterr().out
    assert "host fp32, own graph; device frame = network " in out


def test_a_run_that_was_ended_goes_on(
    checked: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Each row is shown and on the disk when it is measured; those that are there are not measured again."""
    bundle = export_golden("jn256", tmp_path / "jn").path
    words = [str(bundle), "--calls", "2", "--engine", "host", "--json"]
    measured: list[str] = []
    original = gpu_check.measure_engine

    def ended(*arguments: Any) -> Any:
        if len(measured) == 1:
            raise KeyboardInterrupt  # as a limit of ten minutes does
        measured.append(arguments[2][0])
        return original(*arguments)

    monkeypatch.setattr(gpu_check, "measure_engine", ended)
    with pytest.raises(KeyboardInterrupt):
        checked(*words)
    assert "host fp32: device frame " in capsys.readouterr().err
    kept = tmp_path / "work" / "rows.jsonl"
    first = kept.read_text()
    assert first.count("\n") == 1
    kept.write_text(first + '{"device": {"ordi')  # ended while it wrote

    def again(*arguments: Any) -> Any:
        measured.append("again")
        return original(*arguments)

    monkeypatch.setattr(gpu_check, "measure_engine", again)
    assert checked(*words) == 0
    assert measured == ["host", "again"]
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0] == {k: v for k, v in json.loads(first).items() if k not in ("device", "sha256")}
    assert [row["engine"] for row in rows] == ["host fp32", "host fp32, own graph"]
    assert checked(*words) == 0  # the broken line is no obstacle, and nothing is measured any more
    assert measured == ["host", "again"]


def test_quick(checked: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The packaged bundles, engines as `auto` opens them, no torch."""
    monkeypatch.setattr(gpu_check, "QUICK_CALLS", 2)
    assert checked("--quick", "--precision", "fp32", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["bundle"], row["engine"]) for row in rows] == [
        (name, "host fp32") for name in packaged_names()
    ]


def test_settings_that_a_gpu_decides_are_measured() -> None:
    """Rows `tensorrt …, no aux streams` and `…, level 5` beside the default, and ONNX Runtime's own graph."""
    settings = {(variant.backend, variant.setting): variant.options for variant in gpu_check.VARIANTS}
    assert settings[("tensorrt", "no aux streams")].build.max_aux_streams == 0
    assert settings[("tensorrt", "level 5")].build.optimization_level == 5
    assert settings[("tensorrt", "")].build.key() != settings[("tensorrt", "no aux streams")].build.key()
    assert settings[("onnxruntime-cuda", "own graph")].own_graph


def test_rows_that_are_none(checked: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "rows.jsonl").write_text("a\nb\n")
    assert checked("--quick") == 2
    assert "rows.jsonl: line 1 is no row" in capsys.readouterr().err


def test_a_bundle_that_is_none(checked: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert checked(str(tmp_path / "none"), "--json") == 2
    assert "no such folder" in capsys.readouterr().err


def test_what_was_aimed_at() -> None:
    engine = Row("jn", "tensorrt fp16", "graph", ((1.5, 2), (1.75, 2), (2, 2), (2, 2), (1.25, 2)), 0.0)
    eager = Row("jn", EAGER, "", (None, None, None, None, (9.0, 9.5)), None)
    assert aims([engine, eager]) == [
        "jn tensorrt fp16; device frame = network +0.250 ms (aim: at most 0.05);"
        " host frame = network +0.500 ms (aim: at most 0.15); 6.0 times PyTorch eager (aim: at least 5)"
    ]
