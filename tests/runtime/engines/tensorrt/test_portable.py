"""Engines for every GPU from Ampere on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from jntrt.runtime.cuda.driver import DeviceInfo
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.tensorrt import build as tensorrt_build
from jntrt.runtime.engines.tensorrt.build import BuildOptions, build_plan, portable_targets
from jntrt.runtime.engines.tensorrt.cache import EngineCache, compiled_key
from jntrt.runtime.engines.tensorrt.engine import engine_key, obtain_engine
from jntrt.runtime.errors import UserError

ADA = DeviceInfo(0, "NVIDIA L4", "0" * 32, (8, 9), 13000)
AMPERE = DeviceInfo(0, "NVIDIA A10", "1" * 32, (8, 6), 13000)
PORTABLE = EngineOptions(build=BuildOptions(optimization_level=0, portable=True))


@pytest.fixture
def rtx() -> ModuleType:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


def test_rtx_builds_one_engine_for_two_gpus(
    rtx: ModuleType, small_graph: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, built = tmp_path / "track.onnx", []
    graph.write_bytes(small_graph())

    def watched(*given: Any, **named: Any) -> bytes:
        built.append(named["targets"])
        return build_plan(*given, **named)

    monkeypatch.setattr("jntrt.runtime.engines.tensorrt.engine.build_plan", watched)
    cache = EngineCache(tmp_path / "engines", tmp_path / "engine.key")
    keys = [
        obtain_engine(graph, "0" * 64, "fp16", "tensorrt-rtx", device, PORTABLE, cache)[0]
        for device in (ADA, AMPERE)
    ]
    assert keys[0] == keys[1]
    assert built == [portable_targets(rtx)]
    assert {"SM80", "SM86", "SM89", "SM120"} <= set(built[0])
    assert "SM75" not in built[0]
    # What is compiled on a GPU is that model's alone.
    assert compiled_key(keys[0], ADA.name) != compiled_key(keys[1], AMPERE.name)
    # And an engine for one GPU is another one.
    own = engine_key("0" * 64, "fp16", "tensorrt-rtx", ADA, replace(PORTABLE, build=BuildOptions()))
    assert own != keys[0]


def test_turing_has_none(tmp_path: Path) -> None:
    turing = replace(ADA, name="RTX 2080 Ti", compute_capability=(7, 5))
    with pytest.raises(UserError, match="--portable: one engine serves GPUs from Ampere"):
        obtain_engine(tmp_path, "0" * 64, "fp16", "tensorrt", turing, PORTABLE, EngineCache(tmp_path))


@pytest.mark.parametrize("portable", [True, False])
def test_tensorrt_is_told_the_level(monkeypatch: pytest.MonkeyPatch, portable: bool) -> None:
    """A stand-in for TensorRT, which takes any setting and remembers it."""
    config = SimpleNamespace(clear_flag=lambda flag: None)
    builder = SimpleNamespace(
        create_network=lambda flags: None,
        create_builder_config=lambda: config,
        build_serialized_network=lambda network, settings: b"plan",
    )
    library = SimpleNamespace(
        Builder=lambda sink: builder,
        OnnxParser=lambda network, sink: SimpleNamespace(parse=lambda model: True),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=0),
        BuilderFlag=SimpleNamespace(TF32=0),
        HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="ampere+"),
    )
    monkeypatch.setattr(tensorrt_build, "load_flavour", lambda flavour: library)
    monkeypatch.setattr(tensorrt_build, "logger", lambda trt: SimpleNamespace(errors=[]))
    assert build_plan(b"model", "tensorrt", BuildOptions(portable=portable)) == b"plan"
    assert getattr(config, "hardware_compatibility_level", None) == ("ampere+" if portable else None)
