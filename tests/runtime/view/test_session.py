"""The page's orders and the tracking thread: who waits for whom, and what is refused."""

from collections.abc import Callable
from threading import Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.view.session import HISTORY, Session, Stopped

FRAME = np.zeros((90, 120, 3), np.uint8)
BOX = [10, 20, 30, 40]


def session(**targets: int) -> Session:
    return Session("clip.mp4", length=10, threshold=0.25, **targets)


def show(run: Session, index: int, targets: int = 1) -> Any:
    return run.show(index, FRAME, np.full((targets, 4), 5.0), (0.5,) * targets, (False,) * targets)


class Later:
    """Runs `work` in a thread; `done` asks for its result, `waits` whether it has none yet."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._result: list[Any] = []
        self._thread = Thread(target=lambda: self._result.append(work()), daemon=True)
        self._thread.start()

    def waits(self) -> bool:
        self._thread.join(0.1)
        return self._thread.is_alive()

    def done(self) -> Any:
        self._thread.join(5)
        assert not self._thread.is_alive()
        return self._result[0]


def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + 5
    while not condition():
        assert monotonic() < end
        sleep(0.01)


def test_choosing_waits_for_boxes() -> None:
    run = session(most=3)
    chosen = Later(lambda: run.choose(FRAME))
    until(lambda: run.latest is not None)
    assert chosen.waits()
    state, _ = run.state(0)
    assert (state["phase"], state["size"], state["frame"]) == ("choose", [120, 90], 0)
    run.order({"do": "track", "boxes": [BOX, [1, 2, 3, 4]]})
    assert chosen.done().tolist() == [BOX, [1, 2, 3, 4]]
    assert run.state(0)[0]["phase"] == "run"


def test_a_run_that_is_stopped_before_a_box() -> None:
    run = session()

    def choose() -> str:
        with pytest.raises(Stopped) as caught:
            run.choose(FRAME)
        return str(caught.value)

    chosen = Later(choose)
    run.order({"do": "stop"})
    assert "before a box was drawn" in chosen.done()


def test_pause_step_resume() -> None:
    run = session()
    assert show(run, 0) == {}
    run.order({"do": "pause"})
    shown = Later(lambda: show(run, 1))
    assert shown.waits()
    run.order({"do": "step"})
    assert shown.done() == {}
    shown = Later(lambda: show(run, 2))
    assert shown.waits()  # one step is one frame
    assert run.latest is not None
    assert run.latest.still
    run.order({"do": "step"})
    run.order({"do": "step"})
    assert shown.done() == {}
    assert show(run, 3) == {}
    shown = Later(lambda: show(run, 4))
    assert shown.waits()
    run.order({"do": "resume"})
    assert shown.done() == {}
    assert [frame for frame, _ in run.state(0)[0]["scores"]] == [0, 1, 2, 3, 4]


def test_drawing_anew_names_its_target_once() -> None:
    run = session()
    show(run, 0, targets=2)
    run.order({"do": "pause"})
    shown = Later(lambda: show(run, 1, targets=2))
    run.order({"do": "track", "boxes": [None, BOX]})
    assert shown.done() == {1: tuple(BOX)}
    assert show(run, 2, targets=2) == {}


def test_stop_wakes_a_paused_run() -> None:
    run = session()
    show(run, 0)
    run.order({"do": "pause"})
    shown = Later(lambda: show(run, 1))
    assert shown.waits()
    assert not run.stopped
    run.order({"do": "stop"})
    assert shown.done() == {}
    assert run.stopped


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([], "no such order"),
        ({"do": "rm -rf"}, "no such order"),
        ({"do": "track"}, "at most 1 boxes"),
        ({"do": "track", "boxes": [BOX, BOX]}, "at most 1 boxes"),
        ({"do": "track", "boxes": [None]}, "draw a box first"),
        ({"do": "track", "boxes": [[1, 2, 3]]}, "four numbers"),
        ({"do": "track", "boxes": ["1234"]}, "four numbers"),
        ({"do": "track", "boxes": [[1, 2, 3, True]]}, "four numbers"),
        ({"do": "track", "boxes": [[1, 2, 3, float("nan")]]}, "four numbers"),
        ({"do": "track", "boxes": [[1, 2, 0, 4]]}, "at least a pixel"),
        ({"do": "track", "boxes": [[120, 2, 9, 4]]}, "lie in the frame"),
    ],
)
def test_orders_that_are_refused(order: Any, message: str) -> None:
    run = session()
    show(run, 0)
    with pytest.raises(UserError, match=message):
        run.order(order)
    assert show(run, 1) == {}


def test_a_bundle_of_two_needs_both_boxes() -> None:
    run = session(least=2, most=2)
    chosen = Later(lambda: run.choose(FRAME))
    until(lambda: run.latest is not None)
    with pytest.raises(UserError, match="draw 2 boxes first"):
        run.order({"do": "track", "boxes": [BOX]})
    with pytest.raises(UserError, match="draw a box first"):
        run.order({"do": "pause"})
    run.order({"do": "track", "boxes": [BOX, BOX]})
    assert len(chosen.done()) == 2


def test_late_viewers_get_the_history_and_then_only_what_is_new() -> None:
    run = session()
    for index in range(HISTORY + 50):
        show(run, index)
    state, count = run.state(0)
    assert [len(state["scores"]), state["scores"][0][0], count] == [HISTORY, 50, HISTORY + 50]
    show(run, 9000)
    assert run.state(count)[0]["scores"] == [(9000, (0.5,))]
    run.end()
    assert run.over
    with pytest.raises(UserError, match="the run is over"):
        run.order({"do": "pause"})
