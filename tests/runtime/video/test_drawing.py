"""What is drawn keeps off the targets, and a grid says where a pixel is."""

import cv2
import numpy as np
import pytest

from jntrt.runtime.video.drawing import COLOURS, annotate
from jntrt.runtime.video.grid import grid

GROUND = np.full((240, 320, 3), 128, np.uint8)


def inside(picture: np.ndarray, box: list[float]) -> np.ndarray:
    """The pixels in a box, without its outline."""
    x, y, w, h = (round(value) for value in box)
    return picture[y + 4 : y + h - 4, x + 4 : x + w - 4]


@pytest.mark.parametrize(
    "boxes",
    [
        [[40, 0, 80, 60], [40, 70, 80, 60]],  # above: no room, or the other target
        [[0, 0, 150, 120], [0, 120, 150, 120]],
        [[4, 4, 90, 40], [200, 4, 110, 40], [4, 190, 90, 46]],  # three corners are taken
    ],
)
def test_no_plate_covers_a_target(boxes: list[list[float]]) -> None:
    count = len(boxes)
    lost = [index == 0 for index in range(count)]
    picture = annotate(GROUND, [np.array(box, float) for box in boxes], [0.5] * count, lost, 30.0, number=7)
    for box in boxes:
        assert (inside(picture, box) == 128).all()
    assert (picture != 128).any(axis=2).sum() > 4000  # plates and outlines are there


def test_each_target_has_its_colour_and_its_trail() -> None:
    trail = np.array([[100.0, 200.0], [160.0, 200.0], [220.0, 200.0]])
    boxes = [np.array([20.0, 60, 40, 40]), np.array([210.0, 60, 40, 40])]
    picture = annotate(GROUND, boxes, [None, None], [False, False], trails=[np.empty((0, 2)), trail])
    assert tuple(picture[80, 20]) == COLOURS[0]
    assert tuple(picture[80, 210]) == COLOURS[1]
    old, new = picture[200, 110].astype(int), picture[200, 215].astype(int)
    far = [np.abs(colour - COLOURS[1]).max() for colour in (old, new)]
    assert far[1] < far[0]
    assert (picture[150:190] == 128).all()


def test_a_frame_without_anything_stays() -> None:
    assert (annotate(GROUND, [], [], []) == GROUND).all()
    assert (annotate(GROUND, [], [], [], number=3)[:60] != 128).any()


def test_a_grid_at_round_pixels() -> None:
    ground = np.full((1080, 1920, 3), 128, np.uint8)
    picture = grid(ground)
    assert picture.shape == ground.shape
    columns = np.flatnonzero((picture[650] != 128).any(axis=1))
    lines = [int(column) for column in columns if column > 120 and column - 1 not in columns]
    assert lines == list(range(lines[0], 1920, 100))
    assert lines[0] == 200


def test_a_small_frame_is_enlarged_by_a_whole_number() -> None:
    frame = np.zeros((90, 120, 3), np.uint8)
    cv2.rectangle(frame, (61, 41), (75, 55), (0, 200, 0), -1)
    picture = grid(frame)
    assert picture.shape == (540, 720, 3)
    assert picture[48 * 6 + 2, 68 * 6 + 2].tolist() == [0, 200, 0]
