"""Which frames are taken, under which numbers, at what size."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.selection import Selection
from jntrt.runtime.video.sources import frames
from jntrt.runtime.video.stream import Numbered, Opened


def opened(numbers: Iterable[int] = range(20), fps: Fraction | None = Fraction(10)) -> Opened:
    def read() -> Iterable[Numbered]:
        for number in numbers:
            yield number, np.full((8, 16, 3), number, np.uint8)

    return Opened(read(), fps=fps, length=20)  # type: ignore[arg-type]


def numbers(selection: Selection, *given: int) -> list[int]:
    return [number for number, _ in selection.of(opened(given or range(20))).frames]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, list(range(20))),
        ({"start": "5", "end": "8"}, [5, 6, 7]),
        ({"start": "0.5s", "end": "0.75s"}, [5, 6, 7]),
        ({"start": "0:01.5"}, [15, 16, 17, 18, 19]),
        ({"start": "3", "every": 6}, [3, 9, 15]),
        ({"every": 7, "end": "15"}, [0, 7, 14]),
    ],
)
def test_frames_keep_their_numbers(words: dict[str, str | int], expected: list[int]) -> None:
    selection = Selection.parsed(**words)  # type: ignore[arg-type]
    assert numbers(selection) == expected
    assert selection.of(opened()).length == len(expected)


def test_the_rate_is_that_of_what_is_left() -> None:
    assert Selection.parsed(every=4).of(opened()).fps == Fraction(10, 4)


def test_a_missing_frame_gives_way_to_the_next() -> None:
    assert numbers(Selection.parsed(every=3), 0, 1, 2, 4, 5, 6, 9) == [0, 4, 6, 9]


def test_frames_are_scaled() -> None:
    for text, size in [("0.5", (4, 8)), ("2", (16, 32)), ("10x6", (6, 10))]:
        _, frame = next(iter(Selection.parsed(resize=text).of(opened()).frames))
        assert frame.shape == (*size, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"start": "x"}, "--start x: give a frame's number"),
        ({"start": "2.5"}, "seconds such as 2.5s"),
        ({"end": "-1"}, "--end -1: give"),
        ({"every": 0}, "--every 0"),
        ({"resize": "0"}, "--resize 0: give a size"),
        ({"resize": "0x10"}, "--resize"),
        ({"resize": "99999x10"}, "--resize"),
        ({"resize": "half"}, "--resize half"),
    ],
)
def test_wrong_words(words: dict[str, str | int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Selection.parsed(**words)  # type: ignore[arg-type]


def test_selections_without_a_frame() -> None:
    with pytest.raises(UserError, match="--start 20: the source ends before it"):
        numbers(Selection.parsed(start="20"))
    with pytest.raises(UserError, match="--end 3: nothing is left before it"):
        numbers(Selection.parsed(start="3", end="3"))
    with pytest.raises(UserError, match="--start 1s: the source has no frame rate"):
        Selection.parsed(start="1s").of(opened(fps=None))


def test_of_a_source(tmp_path: Path) -> None:
    for index in range(12):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((8, 16, 3), 10 * index, np.uint8))
    with frames(tmp_path, selection=Selection.parsed(start="2", every=4)) as stream:
        found = [(number, int(frame[0, 0, 0])) for number, frame in stream.numbered()]
    assert found == [(2, 20), (6, 60), (10, 100)]
    paths = [tmp_path / "3.png", tmp_path / "1.png"]
    assert [int(frame[0, 0, 0]) for frame in frames(paths)] == [30, 10]
