"""Layers of TensorRT as `bench-jn layers` reads them; the library runs graphs on the host and times nodes."""

import ctypes
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from jntrt.bench import layers
from jntrt.bench.latency.drawn_video import BOX, write_clip
from jntrt.bench.latency.worker import TimedEngine
from jntrt.bench.layers.work import graph_macs
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.engines.device import shared_device
from jntrt.runtime.engines.graph.onnx_bytes import read_nodes
from jntrt.runtime.engines.tensorrt import engine as tensorrt_engine
from jntrt.runtime.engines.tensorrt import gate as engine_gate
from jntrt.runtime.engines.tensorrt.cache import default_root
from jntrt.runtime.engines.tensorrt.engine import TensorRT
from jntrt.runtime.errors import UserError

HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
DETAILED = b"detailed "  # before a plan that was built for a profile; the rest is the ONNX file


class Context:
    """Runs the graph in the stream; reports after each run, as told by `report_to_profiler`, what it took."""

    tells = True

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.profiler, self.enqueue_emits_profile = engine, None, True
        self.places: dict[str, int] = {}
        self.runs = 0
        self.callback = HOST_FUNCTION(self.run)

    def set_tensor_address(self, name: str, place: int) -> bool:
        self.places[name] = place
        return True

    def execute_async_v3(self, stream: int) -> bool:
        driver = shared_device().cu
        function = driver.CUhostFn(_ptr=ctypes.addressof(self.callback))
        return int(driver.cuLaunchHostFunc(stream, function, 0)[0]) == 0

    def array(self, value: Any) -> np.ndarray:
        dtype = np.dtype(TYPES[value.type])
        memory = (ctypes.c_uint8 * (int(np.prod(value.shape)) * dtype.itemsize)).from_address(
            self.places[value.name]
        )
        return np.frombuffer(memory, dtype).reshape(value.shape)

    def run(self, _: int) -> None:
        self.runs += 1
        session = self.engine.session
        results = session.run(None, {value.name: self.array(value) for value in session.get_inputs()})
        for value, result in zip(session.get_outputs(), results, strict=True):
            self.array(value)[...] = result

    def report_to_profiler(self) -> bool:
        assert not self.enqueue_emits_profile
        for index, node in enumerate(self.engine.nodes if self.tells else ()):
            self.profiler.report_layer_time(node.name, 0.5 + index + self.runs % 2)
        return True


class Engine:
    def __init__(self, plan: bytes) -> None:
        self.detailed, model = plan.startswith(DETAILED), plan.removeprefix(DETAILED)
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.nodes = read_nodes(model)
        self.values = {v.name: v for v in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.num_io_tensors = len(self.values)

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.values[name].shape)

    def get_tensor_dtype(self, name: str) -> str:
        return TYPES[self.values[name].type]

    def get_tensor_mode(self, name: str) -> int:
        return int(name in [value.name for value in self.session.get_outputs()])

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Any:
        assert self.detailed
        told = [
            {
                "Name": node.name,
                "LayerType": "gemm" if node.op_type in ("MatMul", "Conv") else "kgen",
                "Metadata": f"[ONNX Layer: {node.name}]",
            }
            for node in self.nodes
        ]
        return SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": told}))


LIBRARY = SimpleNamespace(
    __name__="stand-in",
    __version__="10.13",
    TensorIOMode=SimpleNamespace(INPUT=0, OUTPUT=1),
    LayerInformationFormat=SimpleNamespace(JSON=1),
    IProfiler=type("IProfiler", (), {}),
    nptype=np.dtype,
    Runtime=lambda sink: SimpleNamespace(deserialize_cuda_engine=Engine),
)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TimedEngine:
    """A packaged bundle in the library above, whose engines pass the gate."""
    from jntrt.bench.layers import tensorrt_profile

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for module in (tensorrt_engine, tensorrt_profile):
        monkeypatch.setattr(module, "load_flavour", lambda flavour: LIBRARY)
        monkeypatch.setattr(module, "logger", lambda trt: SimpleNamespace(errors=[]))
    monkeypatch.setattr(
        tensorrt_engine,
        "build_plan",
        lambda model, *_, detailed, **__: (DETAILED if detailed else b"") + model,
    )
    monkeypatch.setattr(engine_gate, "_measure", lambda *_: {"passed": True, "text": "box 0", "box": 0.0})
    monkeypatch.setattr(TensorRT, "obstacle", classmethod(lambda cls, *_: None))
    write_clip(tmp_path / "clip.mp4", 4)
    bundle = open_bundle("jn-nano")
    return TimedEngine("e", str(bundle.path), str(tmp_path / "clip.mp4"), BOX, backend="tensorrt")


def test_layers_of_an_engine_that_is_built_for_them_and_not_kept(engine: TimedEngine, emulated: Any) -> None:
    before = emulated.bytes()
    profile = layers._profile(engine)
    graph = open_bundle("jn-nano").graph("track", "fp32")
    nodes = read_nodes(graph.read_bytes())
    assert [layer.name for layer in profile.layers] == [node.name for node in nodes]
    assert [layer.ms for layer in profile.layers][:3] in ([0.5, 1.5, 2.5], [1.5, 2.5, 3.5])  # medians
    assert {layer.name: layer.macs for layer in profile.layers if layer.macs} == graph_macs(graph)
    assert profile.network_ms > 0
    assert (profile.gpu, profile.lost) == ("Emulated GPU", ())
    assert layers.notes(profile) == ["no limits: Emulated GPU is not in the table of GPUs"]
    kept = [file.read_bytes() for file in default_root().glob("*.engine")]
    assert len(kept) == 2
    assert not any(plan.startswith(DETAILED) for plan in kept)
    assert emulated.bytes() == before


def test_a_library_that_tells_no_times(engine: TimedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "tells", False)
    with pytest.raises(UserError, match="tensorrt tells no times of its layers: no reason given"):
        layers._profile(engine)
