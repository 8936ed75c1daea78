"""What needs a GPU: skipped where there is no driver, and only then."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden, golden_loop

from jntrt.bench.gpu.kernels import check_box, check_crop, on_device
from jntrt.runtime import Tracker
from jntrt.runtime.cuda.driver import CudaError, Device
from jntrt.runtime.cuda.frames import DeviceFrame
from jntrt.runtime.engines import backend_class
from jntrt.runtime.engines.device import shared_device
from jntrt.runtime.engines.precision import find_precision

ENGINES = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda")
NETWORKS = {"ostrack": "ostrack256_ce", "jn": "jn256_ce"}
TOLERANCE_PX = 0.1  # of a GPU's fp32 against the released tracker's boxes


@pytest.fixture(scope="module")
def device() -> Device:
    try:
        device = shared_device()
        device.activate()
        return device
    except CudaError as error:
        if "no NVIDIA driver" in str(error) or "NO_DEVICE" in str(error):
            pytest.skip(f"no driver: {error}")
        raise


@pytest.fixture(scope="module")
def engines(device: Device) -> list[str]:
    reasons = {name: backend_class(name).obstacle(find_precision("fp32")) for name in ENGINES}
    found = [name for name, reason in reasons.items() if reason is None]
    assert found, f"a GPU, and no engine for it: {reasons}"
    return found


def test_kernels_equal_the_host(device: Device) -> None:
    assert check_crop(device) == "equal in 200 frames"
    assert check_box(device) == "equal for 4000 boxes"


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_loops(device: Device, engines: list[str], tmp_path: Path, name: str) -> None:
    """Each engine, frames on the host and on the device, each step from the recorded state."""
    bundle = export_golden(NETWORKS[name], tmp_path / name)
    loop = golden_loop(name)
    for engine in engines:
        with Tracker.from_bundle(bundle, backend=engine) as tracker:
            stream: Any = tracker._loop.stream  # type: ignore[union-attr]
            tracker.init(loop.frame(0), loop.init_box)
            for step in loop.steps:
                frame = loop.frame(step.frame)
                pixels = on_device(device, stream, frame)
                height, width = frame.shape[:2]
                for form in (frame, DeviceFrame(pixels.pointer, width, height, 3 * width)):
                    tracker.state = np.array(step.before)
                    box = tracker.update(form).box
                    np.testing.assert_allclose(box, step.after, rtol=0, atol=TOLERANCE_PX, err_msg=engine)
                pixels.free()


def test_a_torch_tensor_is_a_frame(device: Device, engines: list[str], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    bundle = export_golden("jn256_ce", tmp_path / "jn")
    loop = golden_loop("jn")
    with Tracker.from_bundle(bundle, backend=engines[0]) as tracker:
        tracker.init(torch.from_numpy(loop.frame(0)).cuda(), loop.init_box)
        for step in loop.steps:
            tracker.state = np.array(step.before)
            box = tracker.update(torch.from_numpy(loop.frame(step.frame)).cuda()).box
            np.testing.assert_allclose(box, step.after, rtol=0, atol=TOLERANCE_PX)


def test_a_pycuda_array_is_a_frame(device: Device, engines: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pycuda", reason="PyCUDA is not installed: pip install 'jntrt[pycuda]'")
    import pycuda.autoprimaryctx
    from pycuda import gpuarray

    assert pycuda.autoprimaryctx.context is not None
    bundle = export_golden("jn256_ce", tmp_path / "jn")
    loop = golden_loop("jn")
    with Tracker.from_bundle(bundle, backend=engines[0]) as tracker:
        tracker.init(gpuarray.to_gpu(loop.frame(0)), loop.init_box)
        for step in loop.steps:
            tracker.state = np.array(step.before)
            box = tracker.update(gpuarray.to_gpu(loop.frame(step.frame))).box
            np.testing.assert_allclose(box, step.after, rtol=0, atol=TOLERANCE_PX)
