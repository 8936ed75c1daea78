"""LiteTrack in the device loop: its memory is as many tensors as it has interaction layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import GOLDEN, golden_loop

from jntrt.export.pipeline import export_checkpoint
from jntrt.runtime import Tracker
from jntrt.runtime.cuda.driver import Device

from .test_loop import Interface, host


@pytest.mark.parametrize("form", [host, Interface])
def test_the_same_bits_as_on_the_host(host_backend: str, device: Device, tmp_path: Path, form: Any) -> None:
    golden = GOLDEN / "litetrack" / "b6_3"
    bundle = tmp_path / "bundle"
    export_checkpoint(golden / "weights.safetensors", bundle, config=golden / "config.yaml")
    loop = golden_loop("ostrack")
    tracked = []
    for backend, made in (("onnxruntime", host), (host_backend, form)):
        with Tracker.from_bundle(bundle, backend=backend, threads=1) as tracker:
            tracker.init(made(device, loop.frame(0)), loop.init_box)
            results = [tracker.update(made(device, loop.frame(n))) for n in range(1, 9)]
        tracked.append([(*one.box, one.score) for one in results])
    np.testing.assert_array_equal(tracked[0], tracked[1])
