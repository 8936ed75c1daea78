"""The library used wrongly: one line of TrackerError or UserError, and never a crash."""

import threading
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.errors import TrackerError, UserError

FRAME = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
BOX = (60, 40, 30, 30)


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker.from_bundle(open_bundle("jn-nano"), "onnxruntime", "fp32", 1)


@pytest.mark.parametrize(
    "boxes",
    [
        *("abc", "a\nb", "\x1b[2J", "", None, {}, object(), [1, 2], [[1, 2, 3, 4], [1, 2]], [1, 2, 3, "x"]),
        *([1j, 1, 2, 3], (1e308, 0, 1e308, 1e-300), (0, 0, 1e300, 1e300), (10**400, 1, 2, 3), (1e9, 1, 2, 3)),
        *(np.zeros((0, 4)), np.full((2, 4), 9.0), (np.nan, 1, 2, 3), (1, 1, 0, 0), (-1e7, 0, 10, 10)),
    ],
    ids=repr,
)
def test_boxes_that_are_none(tracker: Tracker, boxes: object) -> None:
    with pytest.raises(UserError) as caught:
        tracker.init(FRAME, boxes)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()
    tracker.init(FRAME, BOX)
    with pytest.raises(UserError):
        tracker.state = boxes  # type: ignore[assignment]
    assert tracker.state.tolist() == list(BOX)


def test_the_state_of_nothing() -> None:
    with Tracker.from_bundle(open_bundle("jn-nano"), "onnxruntime", "fp32", 1) as fresh:
        with pytest.raises(TrackerError, match="state before init"):
            _ = fresh.state
        fresh.init(FRAME, BOX)
    with pytest.raises(TrackerError, match="state before init"):
        _ = fresh.state


@pytest.mark.parametrize("threads", [0, -1, 2000, 10**400, 1.5, "2", True])
@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "openvino"])
def test_numbers_of_threads(backend: str, threads: object) -> None:
    with pytest.raises(UserError, match="threads: give a whole number from 1 to 256"):
        Tracker.from_bundle(open_bundle("jn-nano"), backend, "fp32", threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_closing_while_another_thread_updates(backend: str) -> None:
    for _ in range(5):
        tracker = Tracker.from_bundle(open_bundle("jn-nano"), backend, "fp32", 1)
        tracker.init(FRAME, BOX)
        began, ends = threading.Event(), []

        def track(tracker: Tracker = tracker, began: threading.Event = began, ends: list = ends) -> None:
            try:
                while True:
                    tracker.update(FRAME)
                    began.set()
            except Exception as stopped:
                ends.append(stopped)

        running = threading.Thread(target=track)
        running.start()
        began.wait()
        tracker.close()
        running.join()
        assert [type(error) for error in ends] == [TrackerError]


def test_paths_that_are_none(tmp_path: Path) -> None:
    for path in ("", "a\0b", "x" * 5000, str(tmp_path / "none"), tmp_path / "a\nb"):
        with pytest.raises(UserError) as caught:
            Tracker.from_bundle(path)
        assert "\0" not in str(caught.value)
