"""Where the kernels come from: the packaged fatbin, or NVRTC where there is none for this device."""

from pathlib import Path

import pytest

from jntrt.runtime.cuda import kernels
from jntrt.runtime.cuda.driver import CudaError, Device
from jntrt.runtime.cuda.kernels import Kernels


@pytest.fixture
def fatbin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kernels.fatbin"
    path.write_bytes(b"fatbin of another architecture")
    original = kernels.native_file
    monkeypatch.setattr(kernels, "native_file", lambda name: path if name == path.name else original(name))
    return path


def test_the_fatbin_is_taken(device: Device, fatbin: Path) -> None:
    assert Kernels(device).origin == "fatbin"


def test_a_fatbin_that_does_not_load(device: Device, fatbin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATED_NO_FATBIN", "1")
    assert Kernels(device).origin == "nvrtc"


def test_no_fatbin(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    original = kernels.native_file
    monkeypatch.setattr(
        kernels, "native_file", lambda name: None if name.endswith(".fatbin") else original(name)
    )
    assert Kernels(device).origin == "nvrtc"
    monkeypatch.setattr(kernels, "native_file", lambda name: None)
    with pytest.raises(CudaError, match=r"lacks kernels\.cu, crop\.h, box\.h"):
        Kernels(device)


def test_sources_that_do_not_compile(device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "kernels.cu"
    broken.write_text("this is no CUDA")
    original = kernels.native_file
    monkeypatch.setattr(
        kernels, "native_file", lambda name: broken if name == broken.name else original(name)
    )
    with pytest.raises(CudaError, match=r"the kernels do not compile: .*error"):
        kernels.compile_sources((8, 9))
