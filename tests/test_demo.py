"""`make demo` on this environment: the commands as a user types them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jntrt.export.families import FAMILIES, folder_name
from jntrt.runtime.bundle.packaged import packaged_names
from jntrt.runtime.video.sources import frames

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"


@pytest.mark.slow
def test_the_demo_runs(tmp_path: Path) -> None:
    line = [sys.executable, str(DEMO), "demo"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "untrained" in done.stdout
    assert "network" in done.stdout  # the latency table
    for name in (*dict.fromkeys(map(folder_name, FAMILIES)), *packaged_names()):
        assert len(list(frames(tmp_path / "demo" / f"{name}.mp4"))) == 120
        assert np.isfinite(np.loadtxt(tmp_path / "demo" / f"{name}.txt", delimiter=",")).all()
