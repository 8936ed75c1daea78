"""kernels.cu compiled for the host, and the emulated driver around it; once per test run."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = Path(__file__).parents[3] / "runtime" / "native"


def compile_library(source: str, library: Path, *defines: str) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++")
    assert compiler is not None, "these tests need a C++ compiler"
    # The flags of CMakeLists.txt that matter: no contraction, as --fmad=false on the device.
    options = [
        "-std=c++17",
        "-O2",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-pthread",
        f"-I{NATIVE}",
        *defines,
    ]
    subprocess.run([compiler, *options, str(HERE / source), "-o", str(library)], check=True)
    return library


@pytest.fixture(scope="session")
def host_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library("host_kernels.cpp", tmp_path_factory.mktemp("host") / "libhost_kernels.so")


@pytest.fixture(scope="session")
def emulated_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library("emulated_driver.cpp", tmp_path_factory.mktemp("emulated") / "libcuda.so.1")


@pytest.fixture(scope="session")
def host_kernels(host_library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(host_library))


@pytest.fixture(scope="session")
def block_kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Threads of a block run at the same time and share memory, as on the device."""
    library = tmp_path_factory.mktemp("blocks") / "libblock_kernels.so"
    return ctypes.CDLL(str(compile_library("host_kernels.cpp", library, "-DJNTRT_BLOCKS")))
