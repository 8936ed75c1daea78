"""The search for a lost target: windows, what is found, what is refused."""

import itertools
import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from jntrt.bench.sequences.metrics import overlap
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import Box, crop_rectangle, crop_span
from jntrt.runtime.likeness import KEPT, Seen, Views
from jntrt.runtime.loops import Step
from jntrt.runtime.redetect import Redetection, Search, windows

WIDTH, HEIGHT = 400, 320
SIZE = (40.0, 40.0)
PLACES = {"first": (60.0, 60.0), "again": (300.0, 220.0), "other": (180.0, 240.0)}


def texture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (5, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)


TARGET, OTHER = texture(1), texture(2)


def paint(**things: str) -> np.ndarray:
    """A frame with the target and another thing at the named places."""
    frame = np.full((HEIGHT, WIDTH, 3), (60, 90, 120), np.uint8)
    for name, picture in (("target", TARGET), ("other", OTHER)):
        if name in things:
            x, y = map(int, PLACES[things[name]])
            frame[y : y + 40, x : x + 40] = picture
    return frame


class Everything:
    """A loop whose network is sure of whatever stands out in its window, and nearest to its middle."""

    on_device, launch = False, "host"

    def __init__(self) -> None:
        self.steps = 0
        self.state: Box = (0, 0, 1, 1)
        self.seen: list[Box] = []

    def move(self, boxes: Any) -> None:
        x, y, w, h = boxes[0]
        self.state = (x, y, w, h)

    def step(self, frame: np.ndarray) -> Step:
        self.steps += 1
        self.seen.append(self.state)
        x, y, w, h = self.state
        box, score, nearest = self.state, 0.05, crop_span(self.state, BUNDLE.search) / 2 - 20
        for px, py in PLACES.values():
            away = max(abs(px + 20 - x - w / 2), abs(py + 20 - y - h / 2))
            if away < nearest and frame[int(py) + 1, int(px) + 1].tolist() != [60, 90, 120]:
                box, score, nearest = (px, py, *SIZE), 0.95, away
        self.state = box
        return Step(np.array([box]), np.array([score]), 0.1, 0.1)


BUNDLE = replace(open_bundle("jn-nano"), redetect_threshold=0.6)


def search(**options: Any) -> tuple[Everything, Search]:
    loop = Everything()
    looking = Search(loop, BUNDLE, Redetection(**{"after": 3, "windows": 4} | options))
    box = (*PLACES["first"], *SIZE)
    loop.move([box])
    looking.begin(paint(target="first"), box)
    return loop, looking


def run(loop: Everything, looking: Search, frames: list[np.ndarray]) -> list[tuple[Box, bool]]:
    found = []
    for frame in frames:
        step, redetected = looking.follow(frame, loop.step(frame))
        assert loop.state == tuple(step.boxes[0])  # the next frame is searched from what was reported
        found.append((tuple(step.boxes[0].tolist()), redetected))
    return found


def test_finds_the_target_where_it_comes_back() -> None:
    loop, looking = search()
    gone = run(loop, looking, [paint()] * 20)
    assert looking.searching
    assert not any(redetected for _, redetected in gone)
    back = run(loop, looking, [paint(target="again")] * 20)
    first = [redetected for _, redetected in back].index(True)
    assert back[first][0] == (*PLACES["again"], *SIZE)
    assert not any(redetected for _, redetected in back[first + 1 :])
    assert not looking.searching


def test_another_thing_of_its_kind_is_not_taken_for_it() -> None:
    loop, looking = search()
    found = run(loop, looking, [paint(other="other")] * 40)
    assert looking.searching
    assert not any(redetected for _, redetected in found)
    assert any(
        redetected for _, redetected in run(loop, looking, [paint(target="again", other="other")] * 20)
    )


def test_what_it_follows_is_left_when_it_is_no_more_like_the_target() -> None:
    # The network is as sure of the other thing: its score alone would never say that the target is lost.
    loop, looking = search()
    loop.move([(*PLACES["other"], *SIZE)])
    found = run(loop, looking, [paint(target="again", other="other")] * 20)
    assert found[0] == ((*PLACES["other"], *SIZE), False)
    assert found[-1] == ((*PLACES["again"], *SIZE), False)
    assert any(redetected for _, redetected in found)


def test_what_shows_for_two_frames_is_not_taken() -> None:
    loop, looking = search(windows=99)  # all of them: it is seen at once
    run(loop, looking, [paint()] * 4)
    flickering = [paint(target="again"), paint(target="again"), paint()] * 6
    assert not any(redetected for _, redetected in run(loop, looking, flickering))
    found = run(loop, looking, [paint(target="again")] * 3)
    assert [redetected for _, redetected in found] == [False, False, True]


def test_the_frame_is_looked_over_for_other_things_once() -> None:
    loop, looking = search(windows=4)
    count = len(windows((80.0, 80.0), SIZE, BUNDLE.search, WIDTH, HEIGHT))
    steps = []
    for _ in range(3 * count):
        before = loop.steps
        run(loop, looking, [paint(target="first", other="other")])
        steps.append(loop.steps - before)
    covered = math.ceil(count / 4)
    assert steps[0] >= 1 + 4
    assert max(steps[covered:]) <= 3  # its own, and now and then a window elsewhere and a look from close by
    assert 1 <= len(looking._others) <= 3


def test_a_target_that_stays_is_followed_and_not_searched() -> None:
    loop, looking = search()
    found = run(loop, looking, [paint(target="first")] * 12)
    assert set(found) == {((*PLACES["first"], *SIZE), False)}
    assert not looking.searching


def test_windows_begin_at_the_last_place_and_cover_the_frame() -> None:
    places = windows((80.0, 80.0), SIZE, BUNDLE.search, WIDTH, HEIGHT)
    assert places[0] == (60.0, 60.0, *SIZE)
    distances = [np.hypot(x - 60, y - 60) for x, y, _, _ in places]
    assert distances == sorted(distances)
    assert len(set(places)) == len(places)
    squares = [crop_rectangle(box, BUNDLE.search) for box in places]
    for x, y in itertools.product(range(20, WIDTH - 20, 7), range(20, HEIGHT - 20, 7)):
        assert any(
            square.x <= x - 20 and x + 20 <= square.x + square.side and square.y <= y - 20
            and y + 20 <= square.y + square.side
            for square in squares
        )  # fmt: skip


def test_windows_of_a_place_at_the_edge_and_a_target_larger_than_the_frame() -> None:
    for centre, size in (((400.0, 0.0), SIZE), ((200.0, 160.0), (900.0, 700.0))):
        places = windows(centre, size, BUNDLE.search, WIDTH, HEIGHT)
        middles = np.array([(x + w / 2, y + h / 2) for x, y, w, h in places])
        assert (middles >= 0).all()
        assert (middles <= (WIDTH, HEIGHT)).all()
        assert tuple(middles[0]) == centre
    assert len(places) == 1


def test_time_bounds_the_windows_of_a_frame() -> None:
    loop, looking = search(windows=None, milliseconds=1e-3)
    run(loop, looking, [paint()] * 3)
    before = loop.steps
    run(loop, looking, [paint()])
    assert loop.steps - before == 2  # the frame's own, and one window in any case


def test_what_cannot_be_searched_is_refused() -> None:
    for wrong in ({"threshold": 1.5}, {"after": 0}, {"windows": 0}, {"milliseconds": 0.0}):
        with pytest.raises(UserError):
            Redetection(**wrong)
    with pytest.raises(UserError, match="calib-jn redetect"):
        Search(Everything(), replace(BUNDLE, redetect_threshold=None), Redetection())
    with pytest.raises(UserError, match="batch 1"):
        Search(Everything(), replace(BUNDLE, batch=2), Redetection())


def test_what_is_followed_without_doubt_for_long_ends_the_search() -> None:
    loop, looking = search(
        threshold=0.97
    )  # what is followed shows some of the background: likeness is 0.7 to 0.9
    run(loop, looking, [paint()] * 4)
    assert looking.searching
    loop.move([(*PLACES["first"], *SIZE)])
    found = run(loop, looking, [paint(target="first")] * 12)
    assert not looking.searching
    assert not any(redetected for _, redetected in found)


def test_the_default_bundle_has_a_threshold_and_another_says_what_it_lacks() -> None:
    with Tracker.from_bundle("nanotrack-v3", backend="onnxruntime", threads=1, redetect=True) as tracker:
        assert tracker.bundle.redetect_threshold == 0.56
    with pytest.raises(UserError, match="bundle jn-nano has no threshold for redetection"):
        Tracker.from_bundle("jn-nano", backend="onnxruntime", threads=1, redetect=True)


def test_likeness_tells_textures_apart_and_forgives_a_shift() -> None:
    views = Views()
    assert views.likeness(Seen(paint(target="first"), (*PLACES["first"], *SIZE))) == 0
    views.add(Seen(paint(target="first"), (*PLACES["first"], *SIZE)), 1.0)
    again = paint(target="again")
    assert views.likeness(Seen(again, (*PLACES["again"], *SIZE))) == pytest.approx(1, abs=1e-3)
    assert views.likeness(Seen(again, (PLACES["again"][0] + 3, PLACES["again"][1] - 3, *SIZE))) > 0.65
    assert views.likeness(Seen(paint(other="other"), (*PLACES["other"], *SIZE))) < 0.3
    assert views.likeness(Seen(again, (-50.0, -50.0, 4.0, 3.0))) < 0.3  # outside the frame: its border


def blot(colours: np.ndarray, background: tuple[int, int, int]) -> Seen:
    """A disc with a bar in it over a plain background, seen in the box about it."""
    frame = np.full((HEIGHT, WIDTH, 3), background, np.uint8)
    cv2.circle(frame, (80, 80), 19, colours[0].tolist(), -1)
    cv2.rectangle(frame, (65, 75), (95, 85), colours[1].tolist(), -1)
    return Seen(frame, (*PLACES["first"], *SIZE))


def test_likeness_outlasts_another_background_and_a_shadow_and_tells_colours_apart() -> None:
    colours = np.array(((200, 40, 60), (220, 200, 50)))
    views = Views()
    views.add(blot(colours, (60, 90, 120)), 1.0)
    elsewhere = views.likeness(blot(colours, (150, 160, 140)))
    shadow = views.likeness(blot((0.8 * colours).astype(int), (48, 72, 96)))
    recoloured = views.likeness(blot(colours[:, ::-1], (60, 90, 120)))
    assert elsewhere > 0.6
    assert shadow > 0.6
    assert recoloured < 0.2


def test_what_is_worth_most_is_remembered() -> None:
    views = Views()
    rng = np.random.default_rng(3)
    seen = [
        Seen(rng.integers(0, 255, (40, 40, 3), np.uint8), (0.0, 0.0, 40.0, 40.0)) for _ in range(KEPT + 2)
    ]
    for number, one in enumerate(seen[:KEPT]):
        views.add(one, number)
    views.add(seen[KEPT], -1.0)
    views.add(seen[KEPT + 1], 0.5)
    kept = [views.likeness(one) > 0.99 for one in seen]
    assert len(views) == KEPT
    assert kept == [False, *[True] * (KEPT - 1), False, True]


def test_the_tracker_finds_a_target_again() -> None:
    with Tracker.from_bundle(
        "jn-nano", backend="onnxruntime", threads=1, redetect=Redetection(threshold=0.35, windows=6)
    ) as tracker:
        tracker.init(paint(target="first", other="other"), (*PLACES["first"], *SIZE))
        for things in ({"target": "first"}, {}, {"target": "again"}):
            results = [tracker.update(paint(**things, other="other")) for _ in range(20)]
        assert any(result.redetected for result in results)
        truth = np.array([(*PLACES["again"], *SIZE)])
        assert overlap(results[-1].box[None], truth)[0] > 0.5
        np.testing.assert_array_equal(tracker.state, results[-1].box)
        assert tracker.stage_ms["search"] > 0
