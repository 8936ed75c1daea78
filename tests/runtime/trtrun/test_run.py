"""The loop of trtrun, its first boxes, and what it draws."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.first_box import check_boxes, first_boxes, given_boxes
from jntrt.runtime.trtrun.run import follow
from jntrt.runtime.video.drawing import annotate


@dataclass
class Result:
    box: np.ndarray
    score: object
    lost: object
    redetected: object = False


class Walker:
    """A tracker that moves each box by one pixel per frame."""

    def init(self, frame: np.ndarray, boxes: np.ndarray) -> None:
        self.boxes = np.array(boxes, np.float64)

    def update(self, frame: np.ndarray) -> Result:
        self.boxes = self.boxes + np.array([1.0, 0, 0, 0])
        if self.boxes.ndim == 1:
            return Result(self.boxes, 0.75, False)
        return Result(self.boxes, np.full(len(self.boxes), 0.75), np.array([False, True]))


FRAMES = [np.full((40, 60, 3), 10 * index, np.uint8) for index in range(4)]


def test_one_target() -> None:
    steps = list(follow(Walker(), FRAMES[0], enumerate(FRAMES[1:], 1), np.array([[1.0, 2, 3, 4]])))  # type: ignore[arg-type]
    assert [int(frame[0, 0, 0]) for frame, _ in steps] == [0, 10, 20, 30]
    assert [tracked.frame for _, tracked in steps] == [0, 1, 2, 3]
    assert steps[3][1].boxes.tolist() == [[4, 2, 3, 4]]
    first, last = steps[0][1].to_dict(), steps[3][1].to_dict()
    assert first["score"] is None
    assert last["box"] == [4, 2, 3, 4]
    assert last["score"] == 0.75
    assert last["lost"] is False


def test_two_targets() -> None:
    boxes = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    *_, (_, tracked) = follow(Walker(), FRAMES[0], enumerate(FRAMES[1:], 1), boxes)  # type: ignore[arg-type]
    assert tracked.boxes.tolist() == [[4, 2, 3, 4], [8, 6, 7, 8]]
    assert tracked.lost == (False, True)
    assert tracked.to_dict()["box"] == [[4, 2, 3, 4], [8, 6, 7, 8]]


@pytest.mark.parametrize("line", ["1,2,3.5,4", "1 2 3.5 4", "1\t2\t3.5\t4", "1, 2, 3.5, 4\n9,9,9,9"])
def test_annotation_files(tmp_path: Path, line: str) -> None:
    path = tmp_path / "groundtruth.txt"
    path.write_text(line)
    assert first_boxes(path).tolist() == [[1, 2, 3.5, 4]]
    boxes = given_boxes([], None, str(tmp_path))
    assert boxes is not None
    assert boxes.tolist() == [[1, 2, 3.5, 4]]


@pytest.mark.parametrize(
    "text",
    [
        "frame,x,y,w,h\n0,1,2,3.5,4\n1,9,9,9,9\n",
        "\ufeffx;y;width;height\n1;2;3.5;4\n",
        '"h","w","y","x"\n4,3.5,2,1\n',
        '{"frame": 0, "box": [1, 2, 3.5, 4], "score": null}\n{"frame": 1, "box": [9, 9, 9, 9]}\n',
        '[\n {"box": [1, 2, 3.5, 4]},\n {"box": [9, 9, 9, 9]}\n]\n',
        "[[1, 2, 3.5, 4], [9, 9, 9, 9]]",
        '{"box": [[1, 2, 3.5, 4]]}',
    ],
)
def test_files_as_our_own_tools_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes"
    path.write_text(text, encoding="utf-8")
    assert first_boxes(path).tolist() == [[1, 2, 3.5, 4]]


def test_several_targets_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.jsonl"
    path.write_text('{"frame": 0, "box": [[1, 2, 3, 4], [5, 6, 7, 8]]}\n')
    assert first_boxes(path).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "first line is empty"),
        (b"1,2,3\n", "3 given, needs 4"),
        (b"nan,nan,nan,nan\n", "finite"),
        (b"x,y,w,h\n", "no box after it"),
        (b"left,top\n", "not 4 numbers"),
        (b"frame,x,y,w,h\n0,,,,\n", "line 2:.*not 4 numbers"),
        (b'{"frame": 0, "box": null}\n', "no box in its first frame"),
        (b"[[1, 2, 3]]", "no box in its first frame"),
        (b"[" * 100_000, "no box in its first frame"),
        (b"\xff\xfe\x00\x81\n", "not a text file"),
    ],
)
def test_bad_annotation_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        first_boxes(path)


def test_where_the_first_box_comes_from(tmp_path: Path) -> None:
    assert given_boxes([], None, "clip.mp4") is None
    boxes = given_boxes(["1,2,3,4", "5,6,7,8"], None, "clip.mp4")
    assert boxes is not None
    assert boxes.shape == (2, 4)
    with pytest.raises(UserError, match="one of them"):
        given_boxes(["1,2,3,4"], tmp_path, "clip.mp4")
    with pytest.raises(UserError, match="No such file"):
        given_boxes([], tmp_path / "missing.txt", "clip.mp4")


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((60, 0, 5, 5), "outside the frame, which is 60×40"),
        ((-5, 0, 5, 5), "outside"),
        ((0, 40, 5, 5), "outside"),
        ((5, 5, 0.5, 9), "smaller than a pixel"),
        ((5, 5, 9, -2), "smaller than a pixel"),
    ],
)
def test_impossible_boxes(box: tuple[float, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_boxes(np.array([box]), FRAMES[0])


def test_boxes_over_the_edge_are_fine() -> None:
    check_boxes(np.array([[-4.0, -4, 5, 5], [59, 39, 1, 1]]), FRAMES[0])


@pytest.mark.parametrize("size", [(40, 60), (720, 1280), (1, 1)])
@pytest.mark.parametrize(
    "box", [(5, 5, 20, 20), (-500, -500, 10, 10), (3000, 2, 5000, 9), (10, 10, 0.1, 0.1), (-5e8, 1, 1e9, 1)]
)
def test_anything_can_be_drawn(size: tuple[int, int], box: tuple[float, ...]) -> None:
    frame = np.full((*size, 3), 128, np.uint8)
    drawn = annotate(frame, [np.array(box, np.float64)] * 2, [0.5, None], [True, False], 123.4)
    assert drawn.shape == frame.shape
    assert (frame == 128).all()


def test_a_lost_target_looks_different() -> None:
    frame = np.full((200, 300, 3), 128, np.uint8)
    box = [np.array([100.0, 60, 80, 80])]
    found = annotate(frame, box, [0.5], [False], None)
    lost = annotate(frame, box, [0.5], [True], None)
    assert (found[60:140, 100] != 128).any(axis=1).all()  # the left side is one line
    assert (lost[62:138, 100] == 128).all(axis=1).any()  # with gaps where it is dashed
