"""The user's own engines, in a TensorRT whose plans are ONNX files that the CPU computes."""

import contextlib
import ctypes
import io
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from golden_bundles import export_golden
from onnx import numpy_helper

from jntrt.runtime import EngineOptions, Tracker
from jntrt.runtime.bundle import Bundle, open_bundle
from jntrt.runtime.engines import auto
from jntrt.runtime.engines.tensorrt import engine as tensorrt_engine
from jntrt.runtime.engines.tensorrt import gate as engine_gate
from jntrt.runtime.engines.tensorrt.cache import default_root
from jntrt.runtime.engines.tensorrt.engine import TensorRT
from jntrt.runtime.engines.tensorrt.own import check_tensors
from jntrt.runtime.errors import GateError, UserError

HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16"}
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 120, 160, 3), np.uint8)


def ports(model: bytes | str) -> tuple[ort.InferenceSession, dict[str, tuple[tuple[int, ...], str]]]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    values = (*session.get_inputs(), *session.get_outputs())
    return session, {value.name: (tuple(value.shape), TYPES[value.type]) for value in values}


class Context:
    """Runs the graph as a function call in the stream. Emulated device memory is host memory."""

    def __init__(self, session: Any, shapes: Any) -> None:
        self.session, self.shapes, self.places = session, shapes, {}
        self.callback = HOST_FUNCTION(self.run)

    def set_tensor_address(self, name: str, place: int) -> bool:
        self.places[name] = place
        return True

    def array(self, name: str) -> np.ndarray:
        shape, dtype = self.shapes[name]
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * nbytes).from_address(self.places[name])
        return np.frombuffer(memory, dtype).reshape(shape)

    def run(self, _: int) -> None:
        outputs = [value.name for value in self.session.get_outputs()]
        feeds = {value.name: self.array(value.name) for value in self.session.get_inputs()}
        for name, value in zip(outputs, self.session.run(outputs, feeds), strict=True):
            self.array(name)[...] = value

    def execute_async_v3(self, stream: Any) -> bool:
        cu = tensorrt_engine.shared_device().cu
        function = cu.CUhostFn(_ptr=ctypes.addressof(self.callback))
        return int(cu.cuLaunchHostFunc(stream, function, 0)[0]) == 0


class Plan:
    def __init__(self, model: bytes) -> None:
        self.session, self.shapes = ports(model)
        self.names = list(self.shapes)
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name][0]

    def get_tensor_dtype(self, name: str) -> str:
        return self.shapes[name][1]

    def get_tensor_mode(self, name: str) -> int:
        return int(name not in {value.name for value in self.session.get_inputs()})

    def create_execution_context(self) -> Context:
        return Context(self.session, self.shapes)


class Library:
    __name__ = "stand-in"
    __version__ = "11.4"
    TensorIOMode = SimpleNamespace(INPUT=0, OUTPUT=1)
    nptype = staticmethod(np.dtype)
    read: ClassVar[list[bytes]] = []

    class Runtime:
        def __init__(self, sink: object) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> Plan:
            Library.read.append(plan)
            return Plan(plan)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_golden("jn256", tmp_path_factory.mktemp("bundles") / "jn")


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in, the gate's child in this process, and a cache of its own."""

    def child(command: Any, input: str, **_: Any) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = engine_gate.main()
        return subprocess.CompletedProcess(command, code, out.getvalue(), error.getvalue())

    monkeypatch.setattr(tensorrt_engine, "load_flavour", lambda flavour: Library)
    monkeypatch.setattr(tensorrt_engine, "logger", lambda trt: SimpleNamespace(errors=[]))
    monkeypatch.setattr(TensorRT, "obstacle", classmethod(lambda cls, *_: None))
    monkeypatch.setattr(engine_gate.subprocess, "run", child)
    monkeypatch.setattr(Library, "read", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def files(bundle: Bundle, tmp_path: Path) -> tuple[Path, Path]:
    """Template and track graph as trtexec would leave them, where the user wants them."""
    places = (tmp_path / "template.plan", tmp_path / "track.plan")
    for graph, place in zip(("template", "track"), places, strict=True):
        place.write_bytes(bundle.graph(graph, "fp32").read_bytes())
    return places


def follow(tracker: Tracker) -> list[Any]:
    tracker.init(FRAMES[0], [50, 40, 30, 20])
    return [tracker.update(frame) for frame in FRAMES[1:]]


def test_they_run_once_they_are_trusted_and_checked(bundle: Bundle, files: tuple[Path, Path]) -> None:
    with Tracker.from_bundle(
        bundle, precision="fp32", options=EngineOptions(own_engines=files, trust=True)
    ) as own:
        assert own.choice == "tensorrt (your own engines)"
        boxes = np.array([result.box for result in follow(own)])
    with Tracker.from_bundle(bundle, "onnxruntime", "fp32", threads=1) as reference:
        expected = np.array([result.box for result in follow(reference)])
    assert np.abs(boxes - expected).max() < 0.05
    # Read by the check and by the run, which were not told to take each other's word.
    assert [len(plan) for plan in Library.read] == [file.stat().st_size for file in files] * 2
    assert not list(default_root().glob("*.engine"))
    assert not list(default_root().glob("*.json"))


def test_nothing_is_read_without_trust(bundle: Bundle, files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"can run any code; add --trust"):
        Tracker.from_bundle(bundle, precision="fp32", options=EngineOptions(own_engines=files))
    assert Library.read == []


def test_an_engine_of_other_weights_is_refused(bundle: Bundle, files: tuple[Path, Path]) -> None:
    model = onnx.load_from_string(files[1].read_bytes())
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    changed = numpy_helper.to_array(weight) * np.float32(-1)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    files[1].write_bytes(model.SerializeToString())
    with pytest.raises(GateError, match=r"--engine computes something else than .* in fp32 \(box"):
        Tracker.from_bundle(bundle, precision="fp32", options=EngineOptions(own_engines=files, trust=True))


def test_the_pair_in_the_wrong_order_is_refused(bundle: Bundle, files: tuple[Path, Path]) -> None:
    swapped = EngineOptions(own_engines=(files[1], files[0]), trust=True)
    with pytest.raises(GateError, match=r"of template\.onnx is none, the engine's"):
        Tracker.from_bundle(bundle, precision="fp32", options=swapped)


def test_files_that_change_under_the_check_are_refused(
    bundle: Bundle, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what runs."""
    measure = engine_gate._measure

    def exchanged(*given: Any) -> Any:
        files[1].write_bytes(files[0].read_bytes())
        return measure(*given)

    monkeypatch.setattr(engine_gate, "_measure", exchanged)
    with pytest.raises(GateError, match="the files of --engine changed meanwhile"):
        Tracker.from_bundle(bundle, precision="fp32", options=EngineOptions(own_engines=files, trust=True))


@pytest.mark.parametrize(
    ("backend", "precision", "words"),
    [
        ("onnxruntime", "fp32", "--backend tensorrt's, not onnxruntime's"),
        ("tensorrt-rtx", "fp32", "--backend tensorrt's, not tensorrt-rtx's"),
        ("auto", "auto", "say which ONNX files it was built from"),
    ],
)
def test_what_they_cannot_go_with(
    bundle: Bundle, files: tuple[Path, Path], backend: str, precision: str, words: str
) -> None:
    options = EngineOptions(own_engines=files, trust=True)
    with pytest.raises(UserError, match=words):
        auto.open_pair(bundle, precision, options, backend)


def test_a_file_that_is_not_there(bundle: Bundle, tmp_path: Path) -> None:
    options = EngineOptions(own_engines=(tmp_path / "a.plan", tmp_path / "b.plan"), trust=True)
    with pytest.raises(UserError, match=r"--engine .*a\.plan: No such file"):
        auto.open_pair(bundle, "fp32", options)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensors_of_a_packaged_bundle_are_known(precision: str) -> None:
    """float16 memory and state inputs; bytes that someone's engine takes as float32 are not."""
    for graph in ("template", "track"):
        file = open_bundle(None).graph(graph, precision)
        _, shapes = ports(str(file))
        tensors: Any = {
            name: SimpleNamespace(shape=shape, dtype=np.dtype(dtype))
            for name, (shape, dtype) in shapes.items()
        }
        check_tensors(file, tensors)
        crop = "template" if graph == "template" else "search"
        tensors[crop].dtype = np.dtype("float32")
        with pytest.raises(UserError, match=rf"{crop} of {graph}.* is uint8 .*, the engine's float32"):
            check_tensors(file, tensors)
