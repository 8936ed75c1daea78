"""A frame with a labelled grid: where there is no browser, a box is read off it."""

import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]

_LINES = 20  # along the longer side, about, where their labels have room
_LEAST_SIDE = 720  # pixels of the longer side: a smaller frame is enlarged, so that its labels have room
_INK, _PAPER = (255, 255, 255), (16, 18, 22)
_ALPHA = 0.45  # of the lines: the target has to be seen through them


def grid(frame: Frame) -> Frame:
    """`frame` (H×W×3 uint8 RGB) under a grid whose labels are pixels of the frame, at round numbers.

    A frame below 720 pixels is enlarged by a whole number; the labels stay pixels of the frame itself.
    """
    height, width = frame.shape[:2]
    zoom = max(1, round(_LEAST_SIDE / max(height, width)))
    size = (width * zoom, height * zoom)
    picture = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    scale = max(size) / 3200 + 0.35
    (label, _), _ = cv2.getTextSize(f"{max(height, width)}", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    step = _round_step(max(max(size) / _LINES, 1.2 * label) / zoom)
    lines = picture.copy()
    for x in range(step, width, step):
        _line(lines, (x * zoom, 0), (x * zoom, size[1]))
    for y in range(step, height, step):
        _line(lines, (0, y * zoom), (size[0], y * zoom))
    picture = np.asarray(cv2.addWeighted(lines, _ALPHA, picture, 1 - _ALPHA, 0), np.uint8)
    for x in range(step, width, step):
        _label(picture, str(x), (x * zoom, 0), scale)
    for y in range(step, height, step):
        _label(picture, str(y), (0, y * zoom), scale)
    return picture


def _round_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 … that is not below `least`."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10


def _line(picture: Frame, start: tuple[int, int], end: tuple[int, int]) -> None:
    """A light line beside a dark one: one of them is seen on any ground."""
    (x0, y0), (x1, y1) = start, end
    across, down = int(x0 == x1), int(y0 == y1)
    cv2.line(picture, start, end, _INK, 1)
    cv2.line(picture, (x0 + across, y0 + down), (x1 + across, y1 + down), _PAPER, 1)


def _label(picture: Frame, text: str, at: tuple[int, int], scale: float) -> None:
    """`text` on a plate at the frame's edge, centred on its line; left out where it would be cut."""
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    pad = round(6 * scale)
    wide, high = width + 2 * pad, height + base + pad
    left = at[0] - wide // 2 if at[1] == 0 else 0
    top = at[1] - high // 2 if at[0] == 0 else 0
    if left < 0 or top < 0 or left + wide > picture.shape[1] or top + high > picture.shape[0]:
        return
    picture[top : top + high, left : left + wide] = _PAPER
    origin = (left + pad, top + height + pad // 2 + 1)
    cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
