"""A family that nothing outside its folder knows, in the device loop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jntrt.runtime import Tracker
from jntrt.runtime.cuda.driver import Device

from ....families.toy.bundle import join_families, leaving_square, write_toy
from .test_loop import Interface, host


@pytest.mark.parametrize("form", [host, Interface])
def test_the_same_bits_as_on_the_host(
    host_backend: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    """Mean border, centre kept in the frame, least size, the size as a state input; two targets."""
    join_families(monkeypatch)
    bundle = write_toy(tmp_path / "grey", batch=2).path
    frames, truth = leaving_square()
    starts = np.array([truth[0], (60.0, 40.0, 4.0, 3.0)])
    tracked = []
    for backend, made in (("onnxruntime", host), (host_backend, form)):
        with Tracker.from_bundle(bundle, backend=backend, threads=1) as tracker:
            tracker.init(made(device, frames[0]), starts)
            results = [tracker.update(made(device, frame)) for frame in frames[1:]]
        tracked.append([(*one.box.ravel(), *one.score) for one in results])
        assert results[-1].box[0, 0] + results[-1].box[0, 2] / 2 == pytest.approx(96)
        assert results[-1].box[1, 2:] == pytest.approx((6, 6), abs=1e-4)
    np.testing.assert_array_equal(tracked[0], tracked[1])


@pytest.mark.parametrize("form", [host, Interface])
def test_targets_that_come_and_go_have_the_host_s_bits(
    host_backend: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    """Idle rows are a square without a side: no kernel and no graph knows of them."""
    join_families(monkeypatch)
    bundle = write_toy(tmp_path / "grey", batch=3).path
    frames, truth = leaving_square()
    tracked = []
    for backend, made in (("onnxruntime", host), (host_backend, form)):
        with Tracker.from_bundle(bundle, backend=backend, threads=1) as tracker:
            tracker.init(made(device, frames[0]), truth[0])
            results = []
            for number, frame in enumerate(frames[1:], start=1):
                results.append(tracker.update(made(device, frame)))
                if number == 2:
                    assert tracker.add(made(device, frame), (60.0, 40.0, 4.0, 3.0)) == 1
                if number == 4:
                    assert tracker.add(made(device, frame), truth[4]) == 2
                    tracker.remove(0)
            assert tracker.active.tolist() == [False, True, True]
        tracked.append([(*one.box.ravel(), *one.score) for one in results])
    assert np.isnan(tracked[0]).any(axis=1).all()
    np.testing.assert_array_equal(tracked[0], tracked[1])
