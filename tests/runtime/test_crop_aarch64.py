"""The native crop as aarch64 runs it: cross-compiled, emulated, the same bytes as OpenCV's here."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime.bundle.conventions import Edge
from jntrt.runtime.crop import crop_opencv
from jntrt.runtime.geometry import CropRectangle, hidden_lines

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "runtime" / "native"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Debian: g++-aarch64-linux-gnu and qemu-user-static."""
    compiler = shutil.which("aarch64-linux-gnu-g++")
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("no compiler for aarch64 here, or no qemu that runs its programs")
    built = tmp_path_factory.mktemp("aarch64") / "crop_rows"
    options = ["-std=c++17", "-O3", "-ffp-contract=off", "-static", "-Wall", "-Wextra", "-Werror"]
    source = str(HERE / "crop_rows.cpp")
    subprocess.run([compiler, *options, f"-I{NATIVE}", source, "-o", str(built)], check=True)
    return [emulator, str(built)]


def test_the_same_bytes(program: list[str]) -> None:
    rng = np.random.default_rng(3)
    cases, wanted = b"", b""
    for number in range(150):
        width, height, size = (int(value) for value in rng.integers(1, 120, 3))
        x, y = (int(value) for value in rng.integers(-60, 90, 2))
        rectangle = CropRectangle(x, y, int(rng.integers(1, 150)))
        frame = rng.integers(0, 256, (height, width, 3), np.uint8)
        if number % 10 == 0:
            frame[:] = 255  # the largest sums
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        edge, swap = list(Edge)[number % 2], number % 3 == 0
        square = (x, y, rectangle.side)
        numbers = (width, height, hidden_lines(edge), red, green, blue, *square, size, swap)
        cases += np.array(numbers, np.int32).tobytes() + frame.tobytes()
        border = (red, green, blue)
        wanted += crop_opencv(frame, rectangle, size, swap=swap, edge=edge, border=border).tobytes()
    run = subprocess.run(program, input=cases, capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(run.stdout, np.uint8), np.frombuffer(wanted, np.uint8))
