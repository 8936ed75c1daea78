"""The device loop on the emulated device: the golden loops, and every way a frame can arrive."""

import gc
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden, golden_loop, write_nanotrack
from golden_conventions import NANOTRACK_LOOPS, frame_of, nanotrack_loop, write_size_bundle

from jntrt.runtime import Tracker
from jntrt.runtime.cuda.driver import Buffer, Device, Stream
from jntrt.runtime.cuda.frames import DeviceFrame
from jntrt.runtime.cuda.upload import FrameUploader, uploaded
from jntrt.runtime.errors import TrackerError
from jntrt.runtime.redetect import Redetection

SEARCH = Redetection(threshold=0.01)
TOLERANCE_PX = {"ostrack": 5e-3, "jn": 1e-3}
NETWORKS = {"ostrack": "ostrack256_ce", "jn": "jn256_ce"}


@pytest.fixture(scope="module", params=NETWORKS)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    network = NETWORKS[request.param]
    return request.param, export_golden(network, tmp_path_factory.mktemp("bundles") / network).path


@pytest.fixture(scope="module")
def jn_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_golden("jn256_ce", tmp_path_factory.mktemp("bundles") / "jn").path


class Interface:
    """Device memory as PyCUDA's GPUArray shows it."""

    def __init__(self, device: Device, array: np.ndarray, **changes: Any) -> None:
        self.buffer = Buffer(device, array.nbytes)
        stream = Stream(device)
        stream.copy(self.buffer.pointer, array.ctypes.data, array.nbytes)
        stream.synchronize()
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.buffer.pointer, False),
            "strides": None,
            "version": 3,
            "stream": 1,
            **changes,
        }


def host(device: Device, frame: np.ndarray) -> Any:
    return frame


@pytest.mark.parametrize("form", [host, Interface])
def test_golden_loop(
    golden: tuple[str, Path], host_backend: str, device: Device, form: Any, emulated: Any
) -> None:
    """Free running, frames on the host and on the device: the released tracker's boxes."""
    name, bundle = golden
    loop = golden_loop(name)
    launches = emulated.calls("graph")
    with Tracker.from_bundle(bundle, backend=host_backend) as tracker:
        tracker.init(form(device, loop.frame(0)), loop.init_box)
        for step in loop.steps:
            result = tracker.update(form(device, loop.frame(step.frame)))
            np.testing.assert_allclose(result.box, step.after, rtol=0, atol=TOLERANCE_PX[name])
            assert result.score == pytest.approx(step.score, abs=5e-5)
        assert tracker.describe()["launch"] == "graph"
    # One launch a frame, all but the first, which runs outside capture.
    assert emulated.calls("graph") - launches == len(loop.steps) - 1


def test_the_same_bits_as_the_cpu(jn_bundle: Path, host_backend: str, device: Device) -> None:
    """Host frames, device frames, strided and swapped ones: box and score equal ONNX Runtime's tracker."""
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend="onnxruntime", threads=1) as reference:
        reference.init(loop.frame(0), loop.init_box)
        expected = [reference.update(loop.frame(number)) for number in range(1, 6)]

    def padded(frame: np.ndarray) -> Any:
        wide = np.zeros((frame.shape[0], frame.shape[1] * 3 + 20), np.uint8)
        wide[:, : frame.shape[1] * 3] = frame.reshape(frame.shape[0], -1)
        strides = (wide.strides[0], 3, 1)
        return Interface(device, wide, shape=frame.shape, strides=strides, typestr="|u1")

    forms: dict[str, Any] = {
        "host": lambda frame: frame,
        "device": lambda frame: Interface(device, frame),
        "padded rows": padded,
        "mixed": lambda frame: frame if frame[0, 0, 0] % 2 else Interface(device, frame),
    }
    for form in forms.values():
        with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
            tracker.init(form(loop.frame(0)), loop.init_box)
            for number, wanted in enumerate(expected, start=1):
                result = tracker.update(form(loop.frame(number)))
                np.testing.assert_array_equal(result.box, wanted.box)
                assert result.score == wanted.score
    with Tracker.from_bundle(jn_bundle, backend=host_backend, color="bgr") as tracker:
        swapped = [np.ascontiguousarray(loop.frame(number)[..., ::-1]) for number in range(6)]
        tracker.init(Interface(device, swapped[0]), loop.init_box)
        for number, wanted in enumerate(expected, start=1):
            frame = swapped[number] if number % 2 else Interface(device, swapped[number])
            np.testing.assert_array_equal(tracker.update(frame).box, wanted.box)


def test_frames_uploaded_ahead(jn_bundle: Path, host_backend: str, device: Device, emulated: Any) -> None:
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        frames = uploaded(device, (loop.frame(number) for number in range(len(loop.steps) + 1)))
        tracker.init(next(frames), loop.init_box)
        count = 0
        for frame, step in zip(frames, loop.steps, strict=True):
            assert isinstance(frame, DeviceFrame)
            marks, waits = emulated.calls("record"), emulated.calls("wait")
            np.testing.assert_allclose(tracker.update(frame).box, step.after, rtol=0, atol=1e-3)
            # For its own copy alone: a mark set now would stand behind the next frame's.
            assert (emulated.calls("record"), emulated.calls("wait")) == (marks, waits + 1)
            count += 1
    assert count == len(loop.steps)


def test_an_uploader_takes_one_size(device: Device) -> None:
    uploader = FrameUploader(device, (4, 5, 3))
    with pytest.raises(TrackerError, match="shape"):
        uploader.upload(np.zeros((5, 4, 3), np.uint8))
    uploader.close()


def test_batches(host_backend: str, device: Device, tmp_path: Path) -> None:
    loop = golden_loop("jn")
    bundle = export_golden("jn256_ce", tmp_path / "pair", 2).path
    boxes = np.array([loop.init_box, [150.0, 60.0, 40.0, 70.0]])
    results = []
    for backend, form in (("onnxruntime", host), (host_backend, host), (host_backend, Interface)):
        with Tracker.from_bundle(bundle, backend=backend) as tracker:
            tracker.init(form(device, loop.frame(0)), boxes)
            results.append([tracker.update(form(device, loop.frame(number))).box for number in (1, 2, 3)])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("batch", [1, 2])
def test_mean_colour_and_state_input(host_backend: str, device: Device, tmp_path: Path, batch: int) -> None:
    """Another family's conventions: the same bits as on the host, however the frames come."""
    loop = nanotrack_loop(6)  # over the border
    bundle = write_size_bundle(tmp_path / "size", batch).path
    boxes = np.array([loop["init"], [30.0, 40.0, 50.0, 20.0]][:batch])

    def padded(device: Device, frame: np.ndarray) -> Any:
        wide = np.zeros((frame.shape[0], frame.shape[1] * 3 + 20), np.uint8)
        wide[:, : frame.shape[1] * 3] = frame.reshape(frame.shape[0], -1)
        return Interface(device, wide, shape=frame.shape, strides=(wide.strides[0], 3, 1), typestr="|u1")

    results = []
    for backend, form in (("onnxruntime", host), *((host_backend, way) for way in (host, Interface, padded))):
        for color in ("rgb", "bgr"):
            with Tracker.from_bundle(bundle, backend=backend, threads=1, color=color) as tracker:
                frames = [frame_of(loop, number) for number in range(8)]
                if color == "bgr":
                    frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
                tracker.init(form(device, frames[0]), boxes)
                tracked = [tracker.update(form(device, frame)) for frame in frames[1:4]]
                tracker.state = boxes + 3  # with its size, not the one that the last frame left
                tracked += [tracker.update(form(device, frame)) for frame in frames[4:]]
                results.append([(result.box, result.score) for result in tracked])
    for other in results[1:]:
        for (box, score), (wanted_box, wanted_score) in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(box, wanted_box)
            np.testing.assert_array_equal(score, wanted_score)


@pytest.mark.parametrize("form", [host, Interface])
def test_nanotrack_golden_loops(
    host_backend: str, device: Device, tmp_path: Path, form: Any, emulated: Any
) -> None:
    """v3's graphs, free running: the official code's boxes, and the bits of ONNX Runtime on the host."""
    bundle = write_nanotrack("v3", tmp_path / "v3")
    for number in NANOTRACK_LOOPS:
        loop = nanotrack_loop(number)
        frames = [frame_of(loop, index) for index in range(len(loop["steps"]) + 1)]
        with (
            Tracker.from_bundle(bundle, backend=host_backend) as tracker,
            Tracker.from_bundle(bundle, backend="onnxruntime", threads=1) as reference,
        ):
            tracker.init(form(device, frames[0]), loop["init"])
            reference.init(frames[0], loop["init"])
            for frame, step in zip(frames[1:], loop["steps"], strict=True):
                result, same = tracker.update(form(device, frame)), reference.update(frame)
                np.testing.assert_array_equal(result.box, same.box)
                assert result.score == same.score
                np.testing.assert_allclose(result.box, step["box"], rtol=0, atol=0.02)
                assert result.score == pytest.approx(step["score"], abs=1e-5)
            assert tracker.describe()["launch"] == "graph"


def test_of_several_targets_one_is_not_finite(host_backend: str, device: Device, tmp_path: Path) -> None:
    """No state moves, on the host or on the device, whichever way the next frame comes."""
    loop = golden_loop("jn")
    bundle = export_golden("jn256_ce", tmp_path / "pair", 2).path
    boxes = np.array([loop.init_box, [150.0, 60.0, 40.0, 70.0]])
    with Tracker.from_bundle(bundle, backend="onnxruntime") as tracker:
        tracker.init(loop.frame(0), boxes)
        wanted = tracker.update(loop.frame(3)).box
    for form in (host, Interface):
        with Tracker.from_bundle(bundle, backend=host_backend) as tracker:
            tracker.init(loop.frame(0), boxes)
            network: Any = tracker._pair.track
            network.poisoned = 1
            with pytest.raises(TrackerError, match="not finite"):
                tracker.update(loop.frame(1))
            network.poisoned = None
            np.testing.assert_array_equal(tracker.update(form(device, loop.frame(3))).box, wanted)


def test_kernels_are_loaded_once(jn_bundle: Path, host_backend: str, emulated: Any) -> None:
    Tracker.from_bundle(jn_bundle, backend=host_backend).close()
    modules = emulated.calls("module")
    Tracker.from_bundle(jn_bundle, backend=host_backend).close()
    assert emulated.calls("module") == modules


def test_box_weights_reach_the_track_graph(host_backend: str, device: Device, tmp_path: Path) -> None:
    loop = golden_loop("jn")
    bundle = export_golden("small_box", tmp_path / "box").path
    boxes = []
    for backend in ("onnxruntime", host_backend):
        with Tracker.from_bundle(bundle, backend=backend) as tracker:
            tracker.init(loop.frame(0), loop.init_box)
            boxes.append([tracker.update(loop.frame(number)).box for number in (1, 2, 3)])
    np.testing.assert_array_equal(boxes[0], boxes[1])


def test_state_can_be_set(jn_bundle: Path, host_backend: str, device: Device) -> None:
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        for step in reversed(loop.steps):
            tracker.state = np.array(step.before)
            frame = loop.frame(step.frame)
            result = tracker.update(frame if step.frame % 2 else Interface(device, frame))
            np.testing.assert_allclose(result.box, step.after, rtol=0, atol=1e-3)
            np.testing.assert_array_equal(tracker.state, result.box)


def test_without_capture_it_runs_and_says_so(
    jn_bundle: Path, host_backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EMULATED_NO_CAPTURE", "1")
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        with caplog.at_level(logging.WARNING):
            for step in loop.steps[:4]:
                result = tracker.update(loop.frame(step.frame))
                np.testing.assert_allclose(result.box, step.after, rtol=0, atol=1e-3)
        assert "cuStreamBeginCapture failed" in tracker.describe()["launch"]
    assert caplog.text.count("no CUDA graph") == 1


def test_a_network_that_is_not_finite(jn_bundle: Path, host_backend: str, device: Device) -> None:
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        before = tracker.state
        network: Any = tracker._pair.track
        network.poisoned = slice(None)
        with pytest.raises(TrackerError, match="not finite"):
            tracker.update(loop.frame(1))
        np.testing.assert_array_equal(tracker.state, before)
        network.poisoned = None
        np.testing.assert_allclose(tracker.update(loop.frame(1)).box, loop.steps[0].after, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "changes", "words"),
    [
        ((10, 10, 4), {}, "H×W×3 of uint8"),
        ((10, 10), {}, "H×W×3 of uint8"),
        ((10, 10, 3), {"typestr": "<f4"}, "H×W×3 of uint8"),
        ((10, 0, 3), {}, "no pixels"),
        ((10, 10, 3), {"strides": (3, 30, 1)}, "side by side"),
        ((10, 10, 3), {"strides": (-30, 3, 1)}, "side by side"),
    ],
)
def test_device_frames_that_are_refused(
    jn_bundle: Path, host_backend: str, device: Device, shape: Any, changes: Any, words: str
) -> None:
    frame = Interface(device, np.zeros(shape, np.uint8), **changes)
    with (
        Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker,
        pytest.raises(TrackerError, match=words),
    ):
        tracker.init(frame, (1, 1, 5, 5))


def test_a_frame_of_another_size(jn_bundle: Path, host_backend: str, device: Device) -> None:
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        tracker.init(Interface(device, loop.frame(0)), loop.init_box)
        for frame in (np.zeros((9, 9, 3), np.uint8), Interface(device, np.zeros((9, 9, 3), np.uint8))):
            with pytest.raises(TrackerError, match="the frame is 9×9, at init it was"):
                tracker.update(frame)
        with pytest.raises(TrackerError, match="a frame is an array"):
            tracker.update([1, 2, 3])  # type: ignore[arg-type]


def test_nothing_leaks(jn_bundle: Path, host_backend: str, emulated: Any) -> None:
    """Memory after many trackers: what the first left is what the last leaves."""
    loop = golden_loop("jn")

    def once() -> int:
        with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
            tracker.init(loop.frame(0), loop.init_box)
            tracker.update(loop.frame(1))
        del tracker
        gc.collect()
        return int(emulated.bytes())

    sizes = [once() for _ in range(4)]
    assert len(set(sizes)) == 1


def test_another_tracker_of_the_same_engine(jn_bundle: Path, host_backend: str, emulated: Any) -> None:
    """Stream, memory and captured graph are its own: both go on side by side, one after the other's end."""
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as first:
        alone = emulated.bytes()
        with first.another() as second:
            assert emulated.bytes() > alone
            for tracker in (first, second):
                tracker.init(loop.frame(0), loop.init_box)
            for step in loop.steps[:4]:
                for tracker in (first, second):
                    box = tracker.update(loop.frame(step.frame)).box
                    np.testing.assert_allclose(box, step.after, rtol=0, atol=1e-3)
            assert second.describe()["launch"] == "graph"
        assert emulated.bytes() == alone
        step = loop.steps[4]
        np.testing.assert_allclose(first.update(loop.frame(step.frame)).box, step.after, rtol=0, atol=1e-3)


def test_a_host_frame_is_one_copy(jn_bundle: Path, host_backend: str, emulated: Any) -> None:
    """Its crop, cut in page-locked memory; what the box kernel knows of the frame was told at init."""
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        copies = emulated.calls("copy")
        tracker.update(loop.frame(1))
        assert emulated.calls("copy") - copies == 2  # run once, and once into the captured graph


def test_a_frame_buffer_is_read_in_place(jn_bundle: Path, host_backend: str, emulated: Any) -> None:
    """Nothing but its description is copied; a part of one is a frame too; it outlives the tracker."""
    loop, empty = golden_loop("jn"), emulated.bytes()
    height, width = loop.frame(0).shape[:2]
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        without = emulated.bytes()
        buffers = [tracker.frame_buffer(height + 7, width + 5)[7:, :width] for _ in range(2)]
        assert emulated.bytes() - without == 2 * 3 * (height + 7) * (width + 5)
        buffers[0][:] = loop.frame(0)
        tracker.init(buffers[0], loop.init_box)
        for step in loop.steps[:5]:
            frame = buffers[step.frame % 2]
            frame[:] = loop.frame(step.frame)
            crops, copies = emulated.calls("jntrt_crop"), emulated.calls("copy")
            np.testing.assert_allclose(tracker.update(frame).box, step.after, rtol=0, atol=1e-3)
            if step.frame == 1:  # run once, and once into the captured graph
                assert (emulated.calls("jntrt_crop") - crops, emulated.calls("copy") - copies) == (2, 2)
        # A copy of one lies elsewhere; a mirrored one is cropped on the host.
        tracker.update(buffers[0].copy())
        tracker.update(buffers[0][:, ::-1])
        with pytest.raises(TrackerError, match="sides of 1 to 65536 pixels, not 0×5"):
            tracker.frame_buffer(5, 0)
    buffers[1][:] = 3
    assert emulated.bytes() - empty == 2 * 3 * (height + 7) * (width + 5)
    del buffers, frame
    gc.collect()
    assert emulated.bytes() == empty


def test_a_frame_buffer_is_searched(jn_bundle: Path, host_backend: str) -> None:
    """Redetection compares pixels on the host, where they lie as well."""
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend, redetect=SEARCH) as tracker:
        frame = tracker.frame_buffer(*loop.frame(0).shape[:2])
        frame[:] = loop.frame(0)
        tracker.init(frame, loop.init_box)
        frame[:] = loop.frame(1)
        box = tracker.update(frame).box
    np.testing.assert_allclose(box, loop.steps[0].after, rtol=0, atol=1e-3)


@pytest.mark.parametrize("form", [host, Interface])
def test_frames_that_are_submitted(jn_bundle: Path, host_backend: str, device: Device, form: Any) -> None:
    """Work of both trackers is in their streams before either is waited for."""
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as first, first.another() as second:
        for tracker in (first, second):
            tracker.init(form(device, loop.frame(0)), loop.init_box)
        for step in loop.steps[:4]:
            for tracker in (first, second):
                tracker.submit(form(device, loop.frame(step.frame)))
            for tracker in (first, second):
                box = tracker.result().box
                np.testing.assert_allclose(box, step.after, rtol=0, atol=1e-3)


class GpuMat(Interface):
    """Device memory as cv2.cuda shows it."""

    def __init__(self, device: Device, array: np.ndarray, kind: int = 16) -> None:
        super().__init__(device, array)
        self.step, self._shape, self._kind = array.strides[0], array.shape, kind
        del self.__cuda_array_interface__

    def cudaPtr(self) -> int:
        return self.buffer.pointer

    def size(self) -> tuple[int, int]:
        return self._shape[1], self._shape[0]

    def channels(self) -> int:
        return self._shape[2]

    def type(self) -> int:
        return self._kind


def test_a_gpumat_is_taken_in_place(jn_bundle: Path, host_backend: str, device: Device) -> None:
    loop = golden_loop("jn")
    with Tracker.from_bundle(jn_bundle, backend=host_backend) as tracker:
        tracker.init(GpuMat(device, loop.frame(0)), loop.init_box)
        for step in loop.steps[:3]:
            box = tracker.update(GpuMat(device, loop.frame(step.frame))).box
            np.testing.assert_allclose(box, step.after, rtol=0, atol=1e-3)
        with pytest.raises(TrackerError, match="not a GpuMat of type 24"):
            tracker.update(GpuMat(device, loop.frame(1), kind=24))
