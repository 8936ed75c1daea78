"""Engines from bundle to cache and gate, built by TensorRT-RTX for the emulated device, which runs none."""

import io
import json
import logging
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.bundle import bundle as bundles
from jntrt.runtime.cuda.driver import Device, DeviceInfo
from jntrt.runtime.engines import choose_backend
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.engines.tensorrt import engine as tensorrt_engine
from jntrt.runtime.engines.tensorrt import gate as engine_gate
from jntrt.runtime.engines.tensorrt.build import FLAVOURS, BuildOptions
from jntrt.runtime.engines.tensorrt.build_ahead import build_engine
from jntrt.runtime.engines.tensorrt.cache import Engine, EngineKey, default_root
from jntrt.runtime.engines.tensorrt.engine import TensorRT, TensorRTRTX
from jntrt.runtime.errors import GateError, UserError

FP32 = find_precision("fp32")
PASSED = {"passed": True, "text": "box 1.0e-06", "box": 1e-6}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_golden("jn256", tmp_path_factory.mktemp("bundles") / "jn")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return default_root()


def engines(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.engine"))


def test_built_once_and_gated_once(bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(*_: Any) -> dict[str, Any]:
        asked.append("measured")
        return dict(PASSED)

    monkeypatch.setattr(engine_gate, "_measure", measure)
    first = build_engine(bundle, "fp32", "tensorrt-rtx", BuildOptions(optimization_level=0))
    assert [engine.graph for engine in first] == ["template", "track"]
    assert [Path(engine.path) for engine in first] == sorted(engines(cache), key=lambda p: p.stat().st_size)
    written = [path.stat().st_mtime_ns for path in engines(cache)]
    second = build_engine(bundle, "fp32", "tensorrt-rtx", BuildOptions(optimization_level=0))
    assert [engine.path for engine in first] == [engine.path for engine in second]
    assert [path.stat().st_mtime_ns for path in engines(cache)] == written
    assert asked == ["measured"]
    manifest = json.loads(engines(cache)[0].with_suffix(".json").read_text())
    assert manifest["key"]["gpu"] == "Emulated GPU"
    assert manifest["key"]["driver"] == 13000
    assert manifest["parity"]["passed"]

    # Engines that failed leave nothing behind.
    monkeypatch.setattr(engine_gate, "_measure", lambda *_: {"passed": False, "text": "box 3.0e-01"})
    words = r"else than its graph \(box 3\.0e-01\): take --backend onnxruntime-cuda$"
    with pytest.raises(GateError, match=words):
        build_engine(bundle, "fp32", "tensorrt-rtx", BuildOptions(optimization_level=1))
    assert {Path(engine.path) for engine in first} == set(engines(cache))
    assert {path.with_suffix(".json") for path in engines(cache)} == set(cache.glob("*.json"))


def test_the_gate_runs_in_a_child_and_takes_no_silence_for_an_answer(bundle: Bundle, cache: Path) -> None:
    """The child cannot run the engine here: refused with its reason, and nothing is kept."""
    with pytest.raises(GateError, match=r"its check ended with code 2 .*cannot read the engine"):
        Tracker.from_bundle(bundle, backend="tensorrt-rtx")
    assert engines(cache) == []
    assert list(cache.glob("*.json")) == []


def test_each_graph_is_hashed_once(bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the parent and its gate's child together, which for ViT-B is 0.4 GB in fp16."""
    hashed: list[str] = []
    digest = bundles.file_sha256

    def counted(file: Path) -> str:
        hashed.append(file.name)
        return digest(file)

    def child(command: Any, input: str, **_: Any) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        return subprocess.CompletedProcess(command, engine_gate.main(), "", "in this process")

    monkeypatch.setattr(bundles, "file_sha256", counted)
    monkeypatch.setattr(tensorrt_engine, "file_sha256", counted)
    monkeypatch.setattr(engine_gate.subprocess, "run", child)
    with pytest.raises(GateError, match="in this process"):
        Tracker.from_bundle(bundle.path, backend="tensorrt-rtx")
    assert sorted(hashed) == ["template.onnx", "track.onnx"]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (subprocess.CompletedProcess([], -11, "", ""), r"ended with code -11 \(no message\)"),
        (subprocess.CompletedProcess([], 0, "", ""), r"ended with code 0 \(no message\)"),
        (subprocess.TimeoutExpired("check", 900), "took over 900 s"),
    ],
    ids=["crash", "silence", "hang"],
)
def test_what_a_child_may_do(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, outcome: Any, words: str
) -> None:
    def run(*_: Any, **__: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(engine_gate.subprocess, "run", run)
    with pytest.raises(GateError, match=words):
        engine_gate._measure(bundle, FP32, "tensorrt", EngineOptions())


def test_the_child_imports_nothing_from_where_the_user_stands(
    bundle: Bundle, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GateError, match="cannot read the engine"):
        engine_gate._measure(
            bundle, FP32, "tensorrt-rtx", EngineOptions(build=BuildOptions(optimization_level=0))
        )


def test_auto_says_why_it_passed_engines_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRT, "obstacle", classmethod(lambda cls, *_: f"no {cls.name} here"))
    with caplog.at_level(logging.INFO):
        choice = choose_backend("auto", FP32)
    assert list(choice.passed_over)[:3] == ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda"]
    assert "no tensorrt-rtx here" in caplog.text
    with pytest.raises(UserError, match="backend tensorrt-rtx cannot run fp32 here: no tensorrt-rtx here"):
        choose_backend("tensorrt-rtx", FP32)


def test_auto_goes_on_where_the_driver_is_too_old(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The TensorRT-RTX here is CUDA 13's; a driver of CUDA 12 would fail midway."""
    assert TensorRTRTX.obstacle(FP32) is None
    monkeypatch.setattr(device, "info", replace(device.info, driver=12020))
    choice = choose_backend("auto", FP32)
    assert choice.name == "onnxruntime"
    assert "pip install 'jntrt[rtx-cu12]', or a driver from r580 on" in choice.passed_over["tensorrt-rtx"]
    assert "tensorrt-rtx (the driver is too old)" in str(choice)


@pytest.mark.parametrize(
    ("capability", "precision", "words"),
    [
        ((7, 0), "fp16", "TensorRT needs sm_75"),
        ((9, 0), "fp16", "TensorRT-RTX has no sm_90"),
        ((7, 5), "fp32", "no fp32 matrix product for sm_75"),
        ((7, 5), "int8", "take fp16 or int8-fp16"),
        ((7, 5), "fp16", None),
        ((8, 9), "fp32", None),
        ((7, 5), "bf16-gpu", "bfloat16 is from sm_80 (Ampere) on, take fp16"),
        ((8, 6), "bf16-gpu", None),
    ],
)
def test_devices_that_an_engine_cannot_have(
    capability: tuple[int, int], precision: str, words: str | None
) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    obstacle = TensorRTRTX._device_obstacle(
        trt, DeviceInfo(0, "Card", "00", capability, 13000), find_precision(precision)
    )
    assert (obstacle is None) if words is None else (words in str(obstacle))


@pytest.mark.parametrize("precision", ["bf16", "int8-bf16"])
def test_precisions_that_are_openvinos(precision: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    assert f"{precision} is OpenVINO's reading" in str(TensorRTRTX.obstacle(find_precision(precision)))


def test_only_engines_are_built(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FLAVOURS, "tensorrt", "tensorrt_that_is_nowhere")
    with pytest.raises(UserError, match="backend openvino has no engines to build"):
        build_engine(bundle, "fp32", "openvino")
    with pytest.raises(UserError, match="backend tensorrt cannot run fp32 here: tensorrt is not installed"):
        build_engine(bundle, "fp32", "tensorrt")


class Library:
    """TensorRT as far as an open engine needs it; it computes nothing."""

    __name__ = "stand-in"
    TensorIOMode = SimpleNamespace(INPUT=0, OUTPUT=1)
    nptype = staticmethod(np.dtype)

    class Runtime:
        def __init__(self, sink: object) -> None:
            self.read = 0

        def deserialize_cuda_engine(self, plan: bytes) -> "Library.Engine":
            return Library.Engine()

    class Engine:
        num_io_tensors = 2

        def __init__(self) -> None:
            self.contexts: list[Any] = []

        def get_tensor_name(self, index: int) -> str:
            return ("search", "box")[index]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (1, 4)

        def get_tensor_dtype(self, name: str) -> str:
            return "uint8" if name == "search" else "float32"

        def get_tensor_mode(self, name: str) -> int:
            return int(name == "box")

        def create_execution_context(self) -> Any:
            context = SimpleNamespace(places={})
            context.set_tensor_address = lambda name, place: context.places.update({name: place}) or True
            self.contexts.append(context)
            return context


def test_trackers_share_a_plan_s_weights(
    cache: Path, monkeypatch: pytest.MonkeyPatch, emulated: Any, device: Any
) -> None:
    """One engine, read once; two contexts, streams and sets of tensors, which end one by one."""
    monkeypatch.setattr(tensorrt_engine, "load_flavour", lambda flavour: Library)
    monkeypatch.setattr(tensorrt_engine, "logger", lambda trt: SimpleNamespace(errors=[]))
    before = emulated.bytes()
    key = EngineKey("0" * 64, "fp16", "tensorrt", "10.13", "GPU", "", "7.5", 13000)
    first = TensorRT(Path("track.onnx"), FP32, EngineOptions(), (key, Engine(b"plan", {})))
    second = first.share()
    assert second._engine is first._engine
    contexts = first._engine.contexts
    assert len(contexts) == 2
    assert not set(contexts[0].places.values()) & set(contexts[1].places.values())
    assert first._stream is not None
    assert second._stream is not None
    assert first._stream.handle != second._stream.handle
    first.close()
    assert second.tensors["box"].pointer == contexts[1].places["box"]
    second.close()
    assert emulated.bytes() == before
    with pytest.raises(UserError, match="the graph is closed"):
        second.share()
