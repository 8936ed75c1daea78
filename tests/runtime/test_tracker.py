"""The tracker: golden loops in both engines, batches, colours, and what it refuses."""

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden, golden_loop
from numpy.typing import ArrayLike, NDArray

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import TrackerError, UserError

TOLERANCE_PX = {"ostrack": 5e-3, "jn": 1e-3}
ENGINES = ("onnxruntime", "openvino")


@pytest.mark.parametrize("backend", ENGINES)
def test_golden_loop_free_running(golden_loop_bundle: tuple[str, Bundle], backend: str) -> None:
    name, bundle = golden_loop_bundle
    loop = golden_loop(name)
    with Tracker.from_bundle(bundle, backend=backend, threads=2) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        for step in loop.steps:
            result = tracker.update(loop.frame(step.frame))
            np.testing.assert_allclose(result.box, step.after, rtol=0, atol=TOLERANCE_PX[name])
            assert result.score == pytest.approx(step.score, abs=5e-5)
            assert result.lost == (step.score < 0.25)


@pytest.mark.parametrize("backend", ENGINES)
def test_golden_loop_forced(golden_loop_bundle: tuple[str, Bundle], backend: str) -> None:
    name, bundle = golden_loop_bundle
    loop = golden_loop(name)
    with Tracker.from_bundle(bundle, backend=backend, threads=2) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        for step in reversed(loop.steps):
            tracker.state = np.array(step.before)
            result = tracker.update(loop.frame(step.frame))
            np.testing.assert_allclose(result.box, step.after, rtol=0, atol=TOLERANCE_PX[name])
            np.testing.assert_array_equal(tracker.state, result.box)


def test_opencv_frames_give_the_same_boxes(golden_loop_bundle: tuple[str, Bundle]) -> None:
    name, bundle = golden_loop_bundle
    loop = golden_loop(name)
    rgb = Tracker.from_bundle(bundle, backend="onnxruntime", threads=1)
    bgr = Tracker.from_bundle(bundle, backend="onnxruntime", threads=1, color="bgr")
    rgb.init(loop.frame(0), loop.init_box)
    bgr.init(np.ascontiguousarray(loop.frame(0)[..., ::-1]), loop.init_box)
    for number in (1, 2, 3):
        frame = loop.frame(number)
        seen = bgr.update(np.ascontiguousarray(frame[..., ::-1]))
        np.testing.assert_array_equal(rgb.update(frame).box, seen.box)


def test_a_batch_tracks_each_target_as_if_alone(tmp_path: Path) -> None:
    loop = golden_loop("jn")
    boxes = np.array([loop.init_box, [150.0, 60.0, 40.0, 70.0]])
    single = Tracker.from_bundle(
        export_golden("jn256_ce", tmp_path / "one"), backend="onnxruntime", threads=1
    )
    pair = Tracker.from_bundle(
        export_golden("jn256_ce", tmp_path / "two", 2), backend="onnxruntime", threads=1
    )
    alone = []
    for box in boxes:
        single.init(loop.frame(0), box)
        alone.append([single.update(loop.frame(n)) for n in (1, 2, 3)])
    pair.init(loop.frame(0), boxes)
    for index, number in enumerate((1, 2, 3)):
        result = pair.update(loop.frame(number))
        assert result.box.shape == (2, 4)
        np.testing.assert_allclose(result.box, [a[index].box for a in alone], rtol=0, atol=1e-3)
        np.testing.assert_allclose(result.score, [a[index].score for a in alone], rtol=0, atol=1e-5)
        assert np.asarray(result.lost).tolist() == [a[index].lost for a in alone]
    with pytest.raises(TrackerError, match=r"tracks 2 target\(s\) at once: give 1 to 2 boxes"):
        pair.init(loop.frame(0), [*boxes, boxes[0]])


def test_targets_come_and_go_in_one_batch(tmp_path: Path) -> None:
    """Two of three rows at first: each target as if alone, whoever is beside it."""
    loop = golden_loop("jn")
    boxes = np.array([loop.init_box, [150.0, 60.0, 40.0, 70.0], [40.0, 90.0, 50.0, 50.0]])
    alone = Tracker.from_bundle(export_golden("jn256_ce", tmp_path / "one"), backend="onnxruntime", threads=1)

    def boxes_alone(start: int, box: ArrayLike, end: int) -> list[NDArray[np.float64]]:
        alone.init(loop.frame(start), box)
        return [np.asarray(alone.update(loop.frame(n)).box) for n in range(start + 1, end)]

    wanted = (
        boxes_alone(0, boxes[0], 6),
        boxes_alone(0, boxes[1], 4),
        boxes_alone(2, boxes[2], 6),
    )
    bundle = export_golden("jn256_ce", tmp_path / "three", 3)
    with Tracker.from_bundle(bundle, backend="onnxruntime", threads=1) as tracker:
        tracker.init(loop.frame(0), boxes[:2])
        assert tracker.active.tolist() == [True, True, False]
        seen = []
        for number in range(1, 6):
            result = tracker.update(loop.frame(number))
            assert np.isnan(result.box[~tracker.active]).all()
            assert np.isnan(np.asarray(result.score)[~tracker.active]).all()
            seen.append(result.box)
            tracker.state = tracker.state  # idle rows and all
            if number == 2:
                assert tracker.add(loop.frame(2), boxes[2]) == 2
                with pytest.raises(TrackerError, match="all are taken"):
                    tracker.add(loop.frame(2), boxes[2])
            if number == 3:
                tracker.remove(1)
                assert tracker.active.tolist() == [True, False, True]
                with pytest.raises(TrackerError, match="there is no target 1"):
                    tracker.remove(1)
        tracker.state = boxes[[0, 2]]  # the active ones alone
        np.testing.assert_array_equal(tracker.state[[0, 2]], boxes[[0, 2]])
        with pytest.raises(TrackerError, match="give 2 boxes"):
            tracker.state = boxes[:1]
    near = {"rtol": 0, "atol": 1e-3}
    np.testing.assert_allclose([box[0] for box in seen], wanted[0], **near)
    np.testing.assert_allclose([box[1] for box in seen[:3]], wanted[1], **near)
    np.testing.assert_allclose([box[2] for box in seen[2:]], wanted[2], **near)


@pytest.mark.parametrize("backend", ENGINES)
def test_trackers_share_an_engine(tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened once, run by two threads at the same time on two targets; each is closed by itself."""
    loop = golden_loop("jn")
    bundle = export_golden("jn256_ce", tmp_path / "one")
    targets = [loop.init_box, (150.0, 60.0, 40.0, 70.0)]

    def follow(tracker: Tracker, box: ArrayLike) -> list[NDArray[np.float64]]:
        tracker.init(loop.frame(0), box)
        return [tracker.update(loop.frame(number)).box for number in range(1, 8)]

    with Tracker.from_bundle(bundle, backend, threads=1) as tracker:
        wanted = [follow(tracker, box) for box in targets]
    first = Tracker.from_bundle(bundle, backend, threads=1)
    monkeypatch.setattr(Bundle, "graph", lambda *_: pytest.fail("a graph was opened again"))
    second = first.another()
    assert (second.choice, second.precision) == (first.choice, first.precision)
    with ThreadPoolExecutor() as pool:
        np.testing.assert_array_equal(list(pool.map(follow, (first, second), targets)), wanted)
    first.close()
    np.testing.assert_array_equal(follow(second, targets[0]), wanted[0])
    second.close()
    with pytest.raises(TrackerError, match="the tracker is closed"):
        second.another()


def test_one_thread_drives_several_trackers(tmp_path: Path) -> None:
    """Submitted to both before either is waited for: as `update` one by one."""
    loop = golden_loop("jn")
    bundle = export_golden("jn256_ce", tmp_path / "one")
    targets = [loop.init_box, (150.0, 60.0, 40.0, 70.0)]
    with Tracker.from_bundle(bundle, "onnxruntime", threads=1) as first, first.another() as second:
        wanted = []
        for box in targets:
            first.init(loop.frame(0), box)
            wanted.append([first.update(loop.frame(number)).box for number in range(1, 5)])
        for tracker, box in zip((first, second), targets, strict=True):
            tracker.init(loop.frame(0), box)
        with pytest.raises(TrackerError, match="result before submit"):
            first.result()
        for number in range(1, 5):
            for tracker in (first, second):
                tracker.submit(loop.frame(number))
                for call in (tracker.update, tracker.submit):
                    with pytest.raises(TrackerError, match=r"under way: take its result\(\) first"):
                        call(loop.frame(number))
            for tracker, boxes in zip((first, second), wanted, strict=True):
                np.testing.assert_array_equal(tracker.result().box, boxes[number - 1])
                assert tracker.stage_ms["network"] > 0
        first.submit(loop.frame(5))  # closed with a frame under way: it ends first


def test_what_is_said_of_an_idle_row_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are not finite there end no run; in the row of a target they do."""
    loop = golden_loop("jn")
    bundle = export_golden("jn256_ce", tmp_path / "two", 2)
    with Tracker.from_bundle(bundle, backend="onnxruntime", threads=1) as tracker:
        tracker.init(loop.frame(0), loop.init_box)
        network = tracker._pair.track
        run = network.run

        def poisoned(feeds: Mapping[str, Any]) -> dict[str, Any]:
            outputs = run(feeds)
            outputs["box"][1] = outputs["score"][1] = np.nan
            assert not feeds["search"][1].any()
            return outputs

        monkeypatch.setattr(network, "run", poisoned)
        assert np.isfinite(tracker.update(loop.frame(1)).box[0]).all()
        monkeypatch.undo()
        tracker.add(loop.frame(1), loop.init_box)
        monkeypatch.setattr(network, "run", lambda feeds: {**run(feeds), "score": np.array([0.5, np.nan])})
        with pytest.raises(TrackerError, match="not finite"):
            tracker.update(loop.frame(2))


def test_box_range_weights_are_given_to_the_track_graph(tmp_path: Path) -> None:
    """A GT_BOX network takes `template_weights`; with other rows it would keep other tokens."""
    loop = golden_loop("jn")
    tracker = Tracker.from_bundle(
        export_golden("small_box", tmp_path / "box"), backend="onnxruntime", threads=1
    )
    assert tracker.bundle.takes("track", "template_weights")
    tracker.init(loop.frame(0), loop.init_box)
    first = tracker.update(loop.frame(1))
    wide = [loop.init_box[0] - 60, loop.init_box[1] + 20, loop.init_box[2] + 120, 8.0]
    tracker.init(loop.frame(0), wide)
    assert np.isfinite(first.box).all()
    assert np.isfinite(tracker.update(loop.frame(1)).box).all()


class FakeNetwork:
    """Answers every crop with one box; stands for an engine where the test is about the rest of the frame."""

    name = "fake"

    def __init__(self, box: list[float], score: float = 0.5) -> None:
        self.answer = {"box": np.array([box], np.float32), "score": np.array([score], np.float32)}

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        return self.answer if "search" in feeds else {"memory": feeds["template"]}

    def describe(self) -> dict[str, Any]:
        return {"backend": self.name}

    def close(self) -> None:
        """Holds nothing."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_golden("jn256", tmp_path_factory.mktemp("bundles") / "jn256")


@pytest.fixture
def tracker(bundle: Bundle) -> Tracker:
    backend = FakeNetwork([0.5, 0.5, 0.25, 0.25])
    return Tracker(bundle, Pair(backend, backend))


FRAME = np.full((240, 320, 3), 90, np.uint8)


def test_a_lost_target_is_reported_and_followed_all_the_same(bundle: Bundle) -> None:
    backend = FakeNetwork([0.6, 0.5, 0.25, 0.25], score=0.1)
    tracker = Tracker(bundle, Pair(backend, backend))
    tracker.init(FRAME, (100, 80, 40, 40))
    result = tracker.update(FRAME)
    assert result.lost is True
    assert result.box[0] > 100
    assert result.box.dtype == np.float64
    assert set(tracker.stage_ms) == {"crop", "network", "box"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", range(5))
def test_output_that_is_not_finite(bundle: Bundle, bad: float, where: int) -> None:
    values = [0.5, 0.5, 0.25, 0.25, 0.9]
    values[where] = bad
    backend = FakeNetwork(values[:4], values[4])
    tracker = Tracker(bundle, Pair(backend, backend))
    tracker.init(FRAME, (100, 80, 40, 40))
    with pytest.raises(TrackerError, match="not finite"):
        tracker.update(FRAME)
    assert tracker.state.tolist() == [100, 80, 40, 40]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"box": np.zeros((1, 4), np.float32)},
        {"box": np.zeros(4, np.float32), "score": np.zeros(1, np.float32)},
        {"box": np.zeros((2, 4), np.float32), "score": np.zeros(2, np.float32)},
    ],
)
def test_a_graph_of_something_else(tracker: Tracker, answer: dict[str, Any]) -> None:
    tracker.init(FRAME, (100, 80, 40, 40))
    tracker._pair.track.answer = answer
    with pytest.raises(TrackerError, match="no graph of this bundle"):
        tracker.update(FRAME)


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        ((np.nan, 0, 10, 10), "not finite|empty"),
        ((0, 0, np.inf, 10), "not finite"),
        ((10, 10, 0, 10), "empty"),
        ((10, 10, -5, -5), "empty"),
        ((1000, 10, 20, 20), "outside the frame of 320×240"),
        ((-500, 10, 20, 20), "outside the frame"),
        ((0, 0, 1e200, 1e200), "too large"),
        ((1, 2, 3), r"1 target\(s\)"),
        ([[1, 2, 3, 4], [5, 6, 7, 8]], r"1 target\(s\)"),
    ],
)
def test_boxes_that_cannot_be_tracked(tracker: Tracker, box: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        tracker.init(FRAME, box)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (FRAME.astype(np.float32), r"uint8, not float32"),
        (FRAME[..., 0], "H×W×3"),
        (np.zeros((240, 320, 4), np.uint8), "H×W×3"),
        (np.zeros((0, 320, 3), np.uint8), "no pixels"),
        ("frame.png", "not str"),
    ],
)
def test_frames_that_are_none(tracker: Tracker, frame: Any, complaint: str) -> None:
    with pytest.raises(TrackerError, match=complaint):
        tracker.init(frame, (100, 80, 40, 40))


def test_frames_that_change(tracker: Tracker) -> None:
    tracker.init(FRAME, (100, 80, 40, 40))
    with pytest.raises(TrackerError, match="the frame is 160×240, at init it was 320×240"):
        tracker.update(FRAME[:, :160])
    with pytest.raises(TrackerError, match="not float64"):
        tracker.update(FRAME.astype(np.float64))


def test_the_order_of_calls(tracker: Tracker) -> None:
    with pytest.raises(TrackerError, match="update before init"):
        tracker.update(FRAME)
    with pytest.raises(TrackerError, match="state before init"):
        tracker.state = np.array([1, 2, 3, 4])
    tracker.init(FRAME, (100, 80, 40, 40))
    tracker.close()
    with pytest.raises(TrackerError, match="closed"):
        tracker.init(FRAME, (100, 80, 40, 40))


def test_choices(bundle: Bundle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from jntrt.runtime import engines
    from jntrt.runtime.engines import auto
    from jntrt.runtime.engines.onnxruntime import OnnxRuntime
    from jntrt.runtime.engines.openvino import OpenVino

    for arguments, complaint in (
        ({"backend": "caffe"}, "no backend 'caffe': take auto, "),
        ({"precision": "int3"}, "no precision 'int3': take fp32, fp16, "),
        ({"precision": "int8"}, r"has no precision int8 \(it has fp32\)"),
        ({"threads": 0}, "0 threads: give a whole number from 1"),
        ({"color": "yuv"}, "color 'yuv': say rgb, or bgr"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "onnxruntime cannot run bf16 here: .*openvino"),
    ):
        with pytest.raises(UserError, match=complaint):
            Tracker.from_bundle(bundle, **arguments)
    cpu = {name: engines.BACKENDS[name] for name in ("openvino", "onnxruntime")}
    for module in (engines, auto):
        monkeypatch.setattr(module, "BACKENDS", cpu)  # whatever GPU this machine has
    monkeypatch.setattr(OpenVino, "obstacle", lambda precision: "openvino is not installed")
    with caplog.at_level(logging.INFO):
        tracker = Tracker.from_bundle(bundle, threads=1)
    assert tracker.choice == "onnxruntime; not openvino (not installed)"
    assert f"auto took {tracker.choice}" in caplog.text
    assert tracker.describe()["backend"] == "onnxruntime"
    monkeypatch.setattr(OnnxRuntime, "obstacle", lambda precision: "no onnxruntime")
    with pytest.raises(UserError, match=r"no backend can run fp32 here .*onnxruntime: no onnx.*"):
        Tracker.from_bundle(bundle)


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for backend in ENGINES:
        with pytest.raises(UserError, match=r"pip install 'jntrt\[cpu\]'"):
            Tracker.from_bundle(bundle, backend=backend)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_graph_that_is_none(bundle: Bundle, tmp_path: Path, backend: str) -> None:
    from jntrt.runtime.engines import backend_class

    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(UserError, match="refuses the graph"):
        backend_class(backend)(tmp_path / "bad.onnx", find_precision("fp32"), EngineOptions(threads=1))


def test_each_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export_golden("jn256", tmp_path / "jn256").path
    hashed: list[str] = []
    digest = hashlib.file_digest

    def counted(stream: Any, name: str) -> Any:
        hashed.append(Path(stream.name).name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    Tracker.from_bundle(path, backend="onnxruntime", threads=1).close()
    assert sorted(hashed) == ["template.onnx", "track.onnx"]
