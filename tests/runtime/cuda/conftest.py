"""kernels.cu compiled for the host, once per test run."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[3] / "runtime" / "native"


@pytest.fixture(scope="session")
def host_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++")
    assert compiler is not None, "these tests need a C++ compiler"
    library = tmp_path_factory.mktemp("host") / "libhost_kernels.so"
    source = Path(__file__).parent / "host_kernels.cpp"
    # The flags of CMakeLists.txt that matter: no contraction, as --fmad=false on the device.
    options = [
        "-std=c++17",
        "-O2",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        f"-I{NATIVE}",
    ]
    subprocess.run([compiler, *options, str(source), "-o", str(library)], check=True)
    return library


@pytest.fixture(scope="session")
def host_kernels(host_library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(host_library))
