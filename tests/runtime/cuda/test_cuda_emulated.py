"""runtime/cuda as a whole against an emulated driver: emulated_driver.cpp in the place of libcuda.so.1.

The tests themselves lie in `emulated/` and run in a process of their own, since a process has one libcuda.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_the_loop_on_an_emulated_device(emulated_driver: Path) -> None:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(emulated_driver.parent)}
    environment["JNTRT_EMULATED_DRIVER"] = str(emulated_driver)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "emulated")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parents[2],
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    # All of them ran: as many dots as tests, and nothing else in the progress lines.
    assert re.sub(r"\[ *\d+%\]|\s", "", run.stdout.split("[100%]")[0]).strip(".") == ""


def test_without_a_driver_it_says_so() -> None:
    """In a process of its own, so that whatever GPU this machine has is hidden."""
    script = (
        "from jntrt.runtime.cuda.driver import CudaError, Device\n"
        "try:\n    Device()\nexcept CudaError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert "no NVIDIA driver" in run.stdout or "CUDA_ERROR_NO_DEVICE" in run.stdout


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"EMULATED_DEVICES": "0"}, "no CUDA device 0: the driver shows 0"),
        ({"EMULATED_DEVICES": "-1"}, "cuInit failed: CUDA_ERROR_NO_DEVICE"),
    ],
)
def test_without_a_device_it_says_so(emulated_driver: Path, settings: dict[str, str], words: str) -> None:
    script = "from jntrt.runtime.cuda.driver import Device\nDevice()\n"
    environment = {**os.environ, **settings, "LD_LIBRARY_PATH": str(emulated_driver.parent)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert words in run.stderr
