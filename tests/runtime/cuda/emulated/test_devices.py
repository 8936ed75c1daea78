"""What `Device` does with a GPU, and what it leaves as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden, golden_loop

from jntrt.runtime import Tracker, engines
from jntrt.runtime.cuda.driver import CudaError, Device
from jntrt.runtime.engines.device import DevicePair, shared_device
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.errors import TrackerError

from .test_loop import Interface


@pytest.mark.parametrize(("integrated", "chosen", "yields"), [("1", "0", 1), ("1", "1", 0), ("0", "0", 0)])
def test_an_integrated_gpu_is_waited_for_by_yielding(
    monkeypatch: pytest.MonkeyPatch, emulated: Any, integrated: str, chosen: str, yields: int
) -> None:
    """Unless somebody chose another way before; a card of its own keeps CUDA's."""
    monkeypatch.setenv("EMULATED_INTEGRATED", integrated)
    monkeypatch.setenv("EMULATED_FLAGS", chosen)
    before = emulated.calls("flags 2")
    Device().close()
    assert emulated.calls("flags 2") - before == yields


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_golden("jn256", tmp_path_factory.mktemp("bundles") / "jn").path


def test_the_callers_context_stays_as_it_was(
    bundle: Path, host_backend: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker on the second GPU, called from a thread that works on the first, and back again."""
    monkeypatch.setenv("EMULATED_DEVICES", "2")
    cu, loop = device.cu, golden_loop("jn")

    def current() -> int:
        status, context = cu.cuCtxGetCurrent()
        assert int(status) == 0
        return int(context)

    before = current()
    assert before == int(device.context)
    options = EngineOptions(device=1)
    with Tracker.from_bundle(bundle, host_backend, options=options) as tracker:
        assert current() == before
        tracker.init(loop.frame(0), loop.init_box)
        assert current() == before
        tracker.update(loop.frame(1))
        tracker.state = np.array(loop.init_box)
        assert current() == before
        second: Any = tracker._loop
        assert second.device.info.ordinal == 1
        assert second.device.ordinal_of(second._frame.pointer) == 1
    assert current() == before


def test_another_gpus_array_is_refused(
    bundle: Path, host_backend: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`__cuda_array_interface__` does not say whose it is: the driver does, before a kernel reads it."""
    monkeypatch.setenv("EMULATED_DEVICES", "2")
    loop = golden_loop("jn")
    with Tracker.from_bundle(bundle, host_backend) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        with shared_device(1).current():
            there = Interface(shared_device(1), loop.frame(1))
        with pytest.raises(TrackerError, match="lies on GPU 1, the tracker on GPU 0: copy it there"):
            tracker.update(there)  # type: ignore[arg-type]
        unknown = Interface(device, loop.frame(1), data=(4096, True))
        with pytest.raises(TrackerError, match="memory that CUDA does not know"):
            tracker.update(unknown)  # type: ignore[arg-type]
        with shared_device(1).current():
            there.buffer.free()


def test_after_a_fault_the_cause_is_told_and_everything_is_let_go(
    bundle: Path, host_backend: str, device: Device, emulated: Any
) -> None:
    """Every later call fails, those of `close` too: they must not hide the first one."""
    loop, before = golden_loop("jn"), emulated.bytes()

    def track() -> None:
        with Tracker.from_bundle(bundle, host_backend) as tracker:
            tracker.init(loop.frame(0), loop.init_box)
            tracker.update(loop.frame(1))
            emulated.breaks(True)
            tracker.update(loop.frame(2))

    try:
        with pytest.raises(CudaError, match=r"cu\w+ failed: CUDA_ERROR_ILLEGAL_ADDRESS") as caught:
            track()
    finally:
        emulated.breaks(False)
    assert caught.value.__context__ is None
    assert emulated.bytes() == before


@pytest.mark.parametrize("words", [["--device", "1"], ["--device", "2"]])
def test_trtrun_takes_the_gpu_that_is_named(
    bundle: Path, host_backend: str, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    from jntrt.runtime.command.app import run
    from jntrt.runtime.trtrun.cli import app

    monkeypatch.setenv("EMULATED_DEVICES", "2")
    monkeypatch.setitem(engines.BACKENDS, "host", "nowhere:Nothing")
    opened: list[int] = []
    original = DevicePair.__init__

    def followed(pair: DevicePair, device: Device, *networks: Any) -> None:
        opened.append(device.info.ordinal)
        original(pair, device, *networks)

    monkeypatch.setattr(DevicePair, "__init__", followed)
    video = Path(__file__).parents[4] / "examples" / "helicopter.mp4"
    command = [str(video), "--bundle", str(bundle), "--backend", "host", "--end", "2", *words]
    assert run(app, [*command, "--init", "176.6,76.5,84.6,84.6"]) == (0 if words[1] == "1" else 2)
    assert opened == ([1] if words[1] == "1" else [])
