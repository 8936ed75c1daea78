"""A driver that is too old for a library is an obstacle, said with its remedy, before the library is used."""

import importlib.metadata
from pathlib import Path

import pytest
import tomllib

from jntrt.runtime.cuda import driver_needs
from jntrt.runtime.cuda.driver_needs import driver_obstacle, wheel_cuda
from jntrt.runtime.engines.tensorrt.engine import LEAST

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("cuda", "driver", "obstacle"),
    [
        (13, 13000, None),
        (
            13,
            12080,
            "(it is for CUDA 12.8, TensorRT for CUDA 13): pip install 'jntrt[trt-cu12]', or a driver",
        ),
        (13, 11080, "for CUDA 13): a driver from r580 on"),
        (12, 12040, None),
        (12, 13000, None),
        (12, 12010, "for CUDA 12): a driver from r535 on"),
        (None, 12060, None),
    ],
)
def test_drivers(cuda: int | None, driver: int, obstacle: str | None) -> None:
    got = driver_obstacle("TensorRT", cuda, driver, "trt", LEAST)
    assert (got is None) if obstacle is None else (got is not None and obstacle in got)


def test_the_wheels_say_what_they_were_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorrt-cu12-libs"}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "11.4"

    monkeypatch.setattr(driver_needs, "version", version)
    assert wheel_cuda("tensorrt") == 12
    installed.add("tensorrt-cu13-libs")
    assert wheel_cuda("tensorrt") == 13
    assert wheel_cuda("somewhere_else") is None


def test_every_gpu_extra_has_its_sibling_for_cuda_12() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in ("gpu", "trt", "rtx"):
        sibling = extras[f"{name}-cu12"]
        assert any(line.startswith("nvidia-cuda-nvrtc-cu12") for line in sibling)
        assert "cuda-bindings>=12.9,<13" in sibling
        assert not [line for line in sibling if line.startswith("nvidia-") and "-cu12" not in line]
