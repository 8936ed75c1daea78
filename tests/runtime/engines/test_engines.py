"""The CPU engines by themselves: what they refuse, and that one line says why."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.engines import BACKENDS, backend_class, choose_backend
from jntrt.runtime.engines.onnxruntime import OnnxRuntime
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import TrackerError, UserError

ENGINES = ("onnxruntime", "openvino")

FP32 = find_precision("fp32")


def write_sum(path: Path, location: str = "") -> Path:
    """y = x + w of four floats; w lies in the file, or at `location` as external data."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    if location:
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", "16")):
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
    else:
        weight.raw_data = np.arange(4, dtype=np.float32).tobytes()
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "sum", tensors[:1], tensors[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    assert onnx.load_model(path, load_external_data=False).graph.name == "sum"
    return path


def test_a_signal_after_trackers_in_openvino_is_handled() -> None:
    """OpenVINO left a signal stack that was no more: the next signal was a segmentation fault."""
    script = """
import gc, signal
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import default_bundle
for _ in range(2):
    Tracker.from_bundle(default_bundle(), "openvino", "fp32", 1).close()
    gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("name", ENGINES)
def test_feeds_that_the_graph_does_not_take(tmp_path: Path, name: str) -> None:
    backend = backend_class(name)(write_sum(tmp_path / "sum.onnx"), FP32, EngineOptions(threads=1))
    np.testing.assert_array_equal(backend.run({"x": np.ones(4, np.float32)})["y"], [1, 2, 3, 4])
    for feeds in ({"x": np.ones(5, np.float32)}, {"z": np.ones(4, np.float32)}):
        with pytest.raises(TrackerError, match="cannot run the graph") as caught:
            backend.run(feeds)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "absolute"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, name: str, location: str) -> None:
    """A graph cannot make an engine read other files of the user."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "link.bin").symlink_to(secret)
    graph = write_sum(folder / "sum.onnx", str(secret) if location == "absolute" else location)
    with pytest.raises(UserError, match="refuses the graph") as caught:
        backend_class(name)(graph, FP32, EngineOptions(threads=1))
    assert "\n" not in str(caught.value)


def test_auto_on_a_cpu_takes_onnx_runtime_and_says_so_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BACKENDS:
        if name not in ENGINES:
            why = f"{name} is not installed (or too old): pip install it"
            monkeypatch.setattr(backend_class(name), "obstacle", lambda *_, why=why: why)
    choice = choose_backend("auto", FP32)
    assert choice.name == "onnxruntime"
    assert str(choice) == (
        "onnxruntime; not tensorrt (not installed), tensorrt-rtx (not installed),"
        " onnxruntime-cuda (not installed)"
    )


@pytest.mark.parametrize("name", ENGINES)
def test_engines_say_what_they_are(name: str, tmp_path: Path) -> None:
    engine = backend_class(name)(write_sum(tmp_path / "sum.onnx"), FP32, EngineOptions(threads=2))
    told = engine.describe()
    assert told["backend"] == name
    assert told["threads"] == 2
    assert told["version"]
    if name == "openvino":
        assert told["precision hint"] == "f32"
    else:
        assert told["idle threads"] == "sleep"


@pytest.mark.parametrize("spin", [False, True])
def test_onnx_runtime_s_threads_sleep_between_calls_unless_told(
    spin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own default spins, and takes the core that the decoder beside it needs."""
    import onnxruntime as ort

    taken: list[str] = []
    opened = ort.InferenceSession

    def watched(source: str, options: ort.SessionOptions, **keywords: object) -> ort.InferenceSession:
        taken.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
        return opened(source, options, **keywords)

    monkeypatch.setattr(ort, "InferenceSession", watched)
    options = EngineOptions(threads=2, spin=spin) if spin else EngineOptions(threads=2)
    engine = backend_class("onnxruntime")(write_sum(tmp_path / "sum.onnx"), FP32, options)
    assert taken == ["1" if spin else "0"]
    assert engine.describe()["idle threads"] == ("spin" if spin else "sleep")


def test_without_any_engine_the_one_for_every_machine_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BACKENDS:
        monkeypatch.setattr(backend_class(name), "obstacle", lambda *_, name=name: f"{name} is not installed")
    with pytest.raises(UserError, match=r"can run fp32 here \(onnxruntime: .*; openvino: .*; tensorrt: "):
        choose_backend("auto", FP32)


def test_a_small_network_has_one_thread_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle("nanotrack-v3")

    def threads(options: EngineOptions) -> object:
        pair = OnnxRuntime.open(bundle, find_precision("fp32"), options)
        try:
            return pair.describe()["threads"]
        finally:
            pair.close()

    assert threads(EngineOptions()) == 1
    assert threads(EngineOptions(threads=2)) == 2
    assert threads(EngineOptions(spin=True)) == "all cores"
    monkeypatch.setattr("jntrt.runtime.engines.onnxruntime.SMALL", bundle.macs)
    assert threads(EngineOptions()) == "all cores"
