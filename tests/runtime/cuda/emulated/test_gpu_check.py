"""bench/gpu_check.py on the emulated device: that it runs and compares, not what it measures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden
from jntrt.bench import gpu_check
from jntrt.bench.gpu_kernels import check_box, check_crop
from jntrt.runtime import backends
from jntrt.runtime.cuda.driver import Device


def test_the_kernels_are_compared(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_crop(device, 20) == "equal in 20 frames"
    assert check_box(device, 100) == "equal for 100 boxes"

    def black(frame: Any, rectangle: Any, size: int, *, swap: bool) -> np.ndarray:
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr("jntrt.bench.gpu_kernels.crop", black)
    monkeypatch.setattr("jntrt.bench.gpu_kernels.box_to_frame", lambda *_: (1.0, 2.0, 3.0, 4.0))
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
    monkeypatch.setattr(gpu_check, "ENGINES", ("host",))
    monkeypatch.setattr(gpu_check, "backend_class", backends.backend_class)
    monkeypatch.setattr("sys.argv", ["gpu_check", str(bundle.path), "--calls", "2", *words])
    assert gpu_check.main() == 0
    out = capsys.readouterr().out
    if words:
        rows: list[dict[str, Any]] = json.loads(out)["rows"]
        assert [row["engine"] for row in rows] == ["host fp32"]
        assert rows[0]["launch"] == "graph"
        assert rows[0]["worst_px"] == 0.0
        assert all(0 < p50 <= p99 for p50, p99 in rows[0]["times"])
    else:
        assert "host fp32: launched as graph" in out
