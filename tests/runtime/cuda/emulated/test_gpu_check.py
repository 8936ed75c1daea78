"""bench/gpu/check.py on the emulated device: that it runs and compares, not what it measures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden

from jntrt.bench.gpu import check as gpu_check
from jntrt.bench.gpu.kernels import check_box, check_crop
from jntrt.runtime import engines
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


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_whole_table(
    host_backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    bundle = export_golden("jn256", tmp_path / "jn")
    monkeypatch.setattr(gpu_check, "ENGINES", (("host", True),))
    monkeypatch.setattr(gpu_check, "backend_class", engines.backend_class)
    monkeypatch.setattr("sys.argv", ["gpu_check", str(bundle.path), "--calls", "2", *words])
    assert gpu_check.main() == 0
    out = capsys.readouterr().out
    if words:
        rows: list[dict[str, Any]] = json.loads(out)["rows"]
        assert [row["engine"] for row in rows] == ["host fp32, own graph"]
        assert rows[0]["launch"] == "graph"
        assert rows[0]["worst_px"] == 0.0
        assert all(0 < p50 <= p99 for p50, p99 in rows[0]["times"])
    else:
        assert "host fp32, own graph: launched as graph" in out
        assert "host fp32, own graph; device frame = network " in out


def test_a_bundle_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(gpu_check, "check_crop", lambda _: "equal")
    monkeypatch.setattr(gpu_check, "check_box", lambda _: "equal")
    monkeypatch.setattr("sys.argv", ["gpu_check", str(tmp_path / "none"), "--json"])
    assert gpu_check.main() == 2
    assert "gpu_check: none: " in capsys.readouterr().err


def test_what_was_aimed_at() -> None:
    engine = gpu_check.Row("jn", "tensorrt fp16", "graph", ((1.5, 2), (1.75, 2), (2, 2), (1.25, 2)), 0.0)
    eager = gpu_check.Row("jn", gpu_check.EAGER, "", (None, None, None, (9.0, 9.5)), None)
    assert gpu_check.aims([engine, eager]) == [
        "jn tensorrt fp16; device frame = network +0.250 ms (aim: at most 0.05);"
        " host frame = network +0.500 ms (aim: at most 0.15); 6.0 times PyTorch eager (aim: at least 5)"
    ]
