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


def test_a_driver_before_cuda_13(fatbin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads no cubin that an NVRTC 13 made (marked in the ELF header), and the remedy is named."""
    monkeypatch.setenv("EMULATED_DRIVER", "12040")
    monkeypatch.setenv("EMULATED_NO_FATBIN", "1")
    with Device() as old:
        cuda_13 = kernels.compile_sources((8, 9))
        assert cuda_13[:4] == b"\x7fELF"
        monkeypatch.setattr(kernels, "compile_sources", lambda _: cuda_13[:7] + b"\x41" + cuda_13[8:])
        words = r"CUDA 12\.4\) does not load what its NVRTC compiles: pip install 'jntrt\[gpu-cu12\]'"
        with pytest.raises(CudaError, match=words):
            Kernels(old)
        # What an NVRTC 12 made is loaded, in the place of a build's fatbin.
        monkeypatch.setattr(kernels, "compile_sources", lambda _: cuda_13[:7] + b"\x33" + cuda_13[8:])
        assert Kernels(old).origin == "nvrtc"


def test_a_device_that_nvrtc_does_not_know() -> None:
    """PTX of the newest before it, which the driver compiles."""
    ptx = kernels.compile_sources((12, 9)).decode()
    assert ".target sm_121" in ptx
    assert ".entry jntrt_crop" in ptx


def test_sources_that_do_not_compile(device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "kernels.cu"
    broken.write_text("this is no CUDA")
    original = kernels.native_file
    monkeypatch.setattr(
        kernels, "native_file", lambda name: broken if name == broken.name else original(name)
    )
    with pytest.raises(CudaError, match=r"the kernels do not compile: .*error"):
        kernels.compile_sources((8, 9))
