"""Real builds (TensorRT-RTX) by several processes, and by one that is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jntrt.runtime.cuda.driver import DeviceInfo
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.tensorrt.cache import EngineCache
from jntrt.runtime.engines.tensorrt.engine import obtain_engine

DEVICE = DeviceInfo(0, "NVIDIA GeForce RTX 4090", "00" * 16, (8, 9), 13000)
CHILD = """
import sys, time
from pathlib import Path
from jntrt.runtime.engines.tensorrt.cache import EngineCache
from jntrt.runtime.engines.tensorrt.engine import obtain_engine
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.cuda.driver import DeviceInfo
root, pause = Path(sys.argv[1]), float(sys.argv[2])
def progress(phase, step, count):
    with (root / f"steps.{__import__('os').getpid()}").open("a") as stream:
        stream.write(phase + "\\n")
    time.sleep(pause)
    return True
device = DeviceInfo(0, "NVIDIA GeForce RTX 4090", "00" * 16, (8, 9), 13000)
cache = EngineCache(root / "engines", root / "engine.key")
settings = EngineOptions(progress=progress)
_, engine = obtain_engine(root / "track.onnx", "0" * 64, "fp16", "tensorrt-rtx", device, settings, cache)
print(engine.sha256, flush=True)
"""


def start(root: Path, pause: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, str(root), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def root(tmp_path: Path, small_graph: Callable[..., bytes]) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    (tmp_path / "track.onnx").write_bytes(small_graph())
    return tmp_path


def test_four_processes_build_one_engine(root: Path) -> None:
    digests = set()
    for process in [start(root, 0.05) for _ in range(4)]:
        out, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
        digests.add(out.strip())
    assert len(digests) == 1
    assert len(list(root.glob("steps.*"))) == 1
    assert len(list((root / "engines").glob("*.engine"))) == 1


def test_a_killed_build_leaves_nothing(root: Path) -> None:
    process = start(root, 60.0)
    while not list(root.glob("steps.*")):
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert [path.suffix for path in (root / "engines").iterdir()] == [".lock"]
    cache = EngineCache(root / "engines", root / "engine.key")
    _, engine = obtain_engine(
        root / "track.onnx", "0" * 64, "fp16", "tensorrt-rtx", DEVICE, EngineOptions(), cache
    )
    assert len(engine.plan) > 50_000
    assert not list(cache.root.glob(".*"))


def test_the_key_is_the_devices_and_the_graphs(root: Path) -> None:
    cache = EngineCache(root / "engines", root / "engine.key")
    key, _ = obtain_engine(
        root / "track.onnx", "0" * 64, "fp16", "tensorrt-rtx", DEVICE, EngineOptions(), cache
    )
    assert (key.gpu, key.compute_capability, key.driver) == (DEVICE.name, "8.9", 13000)
    assert key.version.count(".") >= 2
    assert len(key.model) == 64
