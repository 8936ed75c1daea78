"""Counting what becomes of targets that go and come back."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.redetection import finite, follow_clip, lines, redetected, returns

BOX, ELSEWHERE = (10.0, 10.0, 20.0, 20.0), (60.0, 60.0, 20.0, 20.0)


class Drawn(Clip):
    def frames(self):
        return iter([np.zeros((90, 90, 3), np.uint8)] * len(self))


def clip(gone: range, count: int = 100) -> Clip:
    boxes = np.tile(BOX, (count, 1))
    boxes[list(gone)] = np.nan
    return Drawn("clip", None, boxes, ~np.isnan(boxes[:, 0]), fps=10.0)


class Says:
    """Gives `answers[number]`, or the true box."""

    def __init__(self, answers: dict[int, tuple]) -> None:
        self.answers, self.number, self.stage_ms = answers, 0, {"network": 2.0, "search": 1.0}

    def init(self, frame, box) -> None:
        self.number = 0

    def update(self, frame) -> SimpleNamespace:
        self.number += 1
        box, lost, again = self.answers.get(self.number, (BOX, False, False))
        return SimpleNamespace(box=np.array(box), lost=lost, redetected=again)


LOST = (ELSEWHERE, True, False)


def test_found_within_two_seconds() -> None:
    away = {number: LOST for number in range(30, 69)}
    found = follow_clip(clip(range(30, 50)), Says(away | {69: (BOX, False, True)}))
    assert (found.returns, found.found, found.redetections, found.wrong) == (1, 1, 1, 0)
    late = follow_clip(clip(range(30, 50)), Says(away | {69: LOST, 70: (BOX, False, True)}))
    assert (late.returns, late.found) == (1, 0)
    unsure = follow_clip(clip(range(30, 50)), Says({number: (BOX, True, False) for number in range(30, 100)}))
    assert unsure.found == 0


def test_wrong_ones_and_false_alarms() -> None:
    gone = follow_clip(clip(range(30, 50)), Says({40: (BOX, False, True), 60: (ELSEWHERE, False, True)}))
    assert (gone.redetections, gone.wrong) == (2, 2)
    alarmed = follow_clip(clip(range(0)), Says({40: (ELSEWHERE, False, True)}))
    calm = follow_clip(clip(range(0)), Says({40: (BOX, False, True)}))
    measured = redetected([gone, alarmed, calm])
    assert measured.found == 1
    assert measured.wrong == 3 / 4
    assert (measured.false_alarms, measured.staying) == (0.5, 2)
    assert (measured.searching_ms, measured.following_ms) == (pytest.approx(float("nan"), nan_ok=True), 3.0)


def test_nothing_to_count() -> None:
    measured = redetected([follow_clip(clip(range(0)), Says({}))])
    assert math.isnan(measured.found)
    assert finite({"found": measured.found, "staying": 1}) == {"found": None, "staying": 1}
    assert returns(np.array([True, False, False, True, True])) == [1]
    assert max(map(len, lines({"a" * 40: measured}))) <= 80
