"""Networks of the published size, with random weights: what their export costs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.bundle import Bundle

CE = {"ce_layers": (3, 6, 9), "keep_ratio": (0.7, 0.7, 0.7)}
SIZES = {
    256: Recipe("ostrack", 128, 2.0, 256, 4.0, 768, 12, 12, 3072, **CE),
    384: Recipe("ostrack", 192, 2.0, 384, 5.0, 768, 12, 12, 3072, **CE),
}
PLAIN_GMACS = {256: 21.5, 384: 48.3}
FAST_GMACS = {256: 20.1, 384: 45.0}


@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 384])
def test_vitb_exports_in_two_minutes_and_six_gigabytes(tmp_path: Path, size: int) -> None:
    torch.manual_seed(size)
    folder = tmp_path / f"vitb_{size}_mae_ce_32x4_ep300"
    folder.mkdir()
    torch.save({"net": OSTrack(SIZES[size]).state_dict()}, folder / "OSTrack_ep0300.pth.tar")
    program = "import sys; from jntrt.export.cli import main; sys.exit(main())"
    arguments = [
        sys.executable,
        "-c",
        program,
        str(folder / "OSTrack_ep0300.pth.tar"),
        "-o",
        str(tmp_path / "b"),
    ]
    process = os.posix_spawn(sys.executable, arguments, os.environ)
    _, status, usage = os.wait4(process, 0)
    # Processor time: on an idle machine the export takes less than that, and a busy one says nothing.
    seconds = usage.ru_utime + usage.ru_stime
    assert os.waitstatus_to_exitcode(status) == 0
    assert seconds < 120
    assert usage.ru_maxrss < 6 * 1024**2  # kB
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.recipe == SIZES[size].to_dict()
    assert round(bundle.manifest["macs"]["plain"] / 1e9, 1) == PLAIN_GMACS[size]
    assert bundle.manifest["macs"]["fast"] / 1e9 <= FAST_GMACS[size]
