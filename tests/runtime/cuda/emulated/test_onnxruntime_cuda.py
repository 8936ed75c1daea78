"""The ONNX Runtime CUDA backend, with ONNX Runtime's CPU provider under the CUDA provider's name.

Emulated device memory is host memory: a session on the CPU, bound to "cuda" addresses, computes in place.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
import pytest
from golden_bundles import export_golden, golden_loop

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines import onnxruntime_cuda
from jntrt.runtime.engines.onnxruntime_cuda import PROBE, PROVIDER, OnnxRuntimeCuda, provider_obstacle
from jntrt.runtime.engines.parity import compare
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import TrackerError, UserError


class Binding:
    def __init__(self, session: Any) -> None:
        self.real = session.io_binding()
        self.devices: list[str] = []

    def bind_input(self, name: str, device: str, *rest: Any) -> None:
        self.devices.append(device)
        self.real.bind_input(name, "cpu", *rest)

    def bind_output(self, name: str, device: str, *rest: Any) -> None:
        self.devices.append(device)
        self.real.bind_output(name, "cpu", *rest)


class Session:
    """What InferenceSession is asked, and what the CUDA provider would answer."""

    opened: ClassVar[list[dict[str, Any]]] = []
    falls_back = False
    refuses: Exception | None = None
    breaks: Exception | None = None

    def __init__(self, model: str | bytes, options: Any, providers: list[Any], enable_fallback: int) -> None:
        ((name, settings),) = providers
        assert name == PROVIDER
        assert not enable_fallback
        if model != PROBE:
            if self.refuses:
                raise self.refuses
            self.opened.append(settings)
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        plain = ort.SessionOptions()
        plain.intra_op_num_threads = 1
        self.real = REAL(model, plain, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"] if self.falls_back else [PROVIDER, "CPUExecutionProvider"]

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def io_binding(self) -> Binding:
        return Binding(self.real)

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        assert set(binding.devices) == {"cuda"}
        if self.breaks:
            raise self.breaks
        self.real.run_with_iobinding(binding.real)


REAL = ort.InferenceSession


@pytest.fixture
def cuda_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Session]]:
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcudnn.so.9"))
    monkeypatch.setattr(Session, "opened", [])
    provider_obstacle.cache_clear()
    yield Session
    provider_obstacle.cache_clear()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_golden("jn256_ce", tmp_path_factory.mktemp("bundles") / "jn")


def test_a_frame_needs_no_marks(cuda_provider: type[Session], bundle: Bundle, emulated: Any) -> None:
    """The loop works on the session's stream: nothing to record before it and to wait for after it."""
    loop = golden_loop("jn")
    with Tracker.from_bundle(bundle, backend="onnxruntime-cuda") as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        before = emulated.calls("record"), emulated.calls("wait")
        tracker.update(loop.frame(1))
        assert (emulated.calls("record"), emulated.calls("wait")) == before
        stream: Any = tracker._loop
        assert str(stream.stream.handle) == cuda_provider.opened[1]["user_compute_stream"]


def test_golden_loop(cuda_provider: type[Session], bundle: Bundle) -> None:
    loop = golden_loop("jn")
    with Tracker.from_bundle(bundle, backend="onnxruntime-cuda") as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        for step in loop.steps:
            result = tracker.update(loop.frame(step.frame))
            np.testing.assert_allclose(result.box, step.after, rtol=0, atol=1e-3)
        described = tracker.describe()
    assert described["launch"].startswith("stream (ONNX Runtime's session")
    assert described["device"] == "Emulated GPU (sm_89)"
    assert len(cuda_provider.opened) == 2
    assert all(int(settings["user_compute_stream"]) > 0 for settings in cuda_provider.opened)


def test_parity_takes_it_as_any_backend(cuda_provider: type[Session], bundle: Bundle) -> None:
    difference = compare(bundle, "fp32", "onnxruntime-cuda")
    assert difference.passed
    assert difference.box < 1e-5


def test_a_provider_that_does_not_load(
    cuda_provider: type[Session],
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Then it is an obstacle, so that `auto` goes on to the CPU, and one line where it was asked for."""
    monkeypatch.setattr(Session, "falls_back", True)
    with pytest.raises(UserError, match="does not load: it needs cuDNN 9 and the CUDA") as caught:
        Tracker.from_bundle(bundle, backend="onnxruntime-cuda")
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""  # stdout is for boxes


def test_a_run_that_breaks(
    cuda_provider: type[Session], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = golden_loop("jn")
    with Tracker.from_bundle(bundle, backend="onnxruntime-cuda") as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        monkeypatch.setattr(Session, "breaks", ort_error("RuntimeException", "CUDA error 700\nhere"))
        with pytest.raises(TrackerError, match="onnxruntime-cuda did not run: CUDA error 700 here"):
            tracker.update(loop.frame(1))


def ort_error(name: str, message: str) -> Exception:
    """One of ONNX Runtime's own exceptions, which derive from Exception alone."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    error: Exception = getattr(state, name)(message)
    return error


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "This session contains graph nodes that are assigned to the default CPU EP, but fallback",
            "not every node",
        ),
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF\nmore", "refuses the graph: .*INVALID_PROTOBUF more"),
    ],
)
@pytest.mark.parametrize("kind", ["Fail", "InvalidProtobuf", "EPFail"])
def test_graphs_that_are_refused(
    cuda_provider: type[Session],
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    words: str,
    kind: str,
) -> None:
    monkeypatch.setattr(Session, "refuses", ort_error(kind, message))
    with pytest.raises(UserError, match=words):
        Tracker.from_bundle(bundle, backend="onnxruntime-cuda")


def test_tensors_of_other_types(
    cuda_provider: type[Session], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {name: value for name, value in onnxruntime_cuda.TYPES.items() if "float" not in name}
    monkeypatch.setattr(onnxruntime_cuda, "TYPES", types)
    with pytest.raises(UserError, match=r"is a tensor\(float\): export again"):
        Tracker.from_bundle(bundle, backend="onnxruntime-cuda")


def test_obstacles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if PROVIDER not in ort.get_available_providers():
        assert "this onnxruntime has no CUDA" in str(OnnxRuntimeCuda.obstacle(find_precision("fp32")))
    assert "has no int8: take fp16" in str(OnnxRuntimeCuda.obstacle(find_precision("int8")))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'jntrt[gpu]'" in str(OnnxRuntimeCuda.obstacle(find_precision("fp32")))
