"""What is drawn on a frame: box, trail, score, number, speed, and that it is lost; readable anywhere."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Box = npt.NDArray[np.float64]
Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # x, y, w, h

# Bright colours that differ for the colour-blind as well (Okabe and Ito), one per target.
COLOURS = [(86, 180, 233), (240, 228, 66), (0, 200, 140), (230, 159, 0), (204, 121, 167)]
LOST_COLOUR = (255, 92, 72)
_SHIFT = 4  # OpenCV draws between pixels when told the number of fractional bits
_INK = (16, 18, 22)


def annotate(
    frame: Frame,
    boxes: Sequence[Box],
    scores: Sequence[float | None],
    lost: Sequence[bool],
    fps: float | None = None,
    *,
    number: int | None = None,
    trails: Sequence[npt.NDArray[np.float64]] = (),
) -> Frame:
    """A copy of `frame` (H×W×3 uint8 RGB) with each target's box (x,y,w,h in pixels), its score and the FPS.

    A lost target's box is dashed and says so. A score of None (frame 0) shows no number. `number` is that of
    the frame; `trails` holds each target's last centres, n×2 in pixels, oldest first. No plate covers a
    target where there is room beside it.
    """
    picture = frame.copy()
    scale = max(1.0, min(frame.shape[:2]) / 480)
    for index, trail in enumerate(trails):
        _path(picture, trail, COLOURS[index % len(COLOURS)], scale)
    taken = [_rectangle(box) for box in boxes]
    for index, (box, score, is_lost) in enumerate(zip(boxes, scores, lost, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        _outline(picture, box, colour, scale, dashed=is_lost)
        words = [str(index + 1)] if len(boxes) > 1 else []
        words += ["lost"] if is_lost else []
        words += [f"{score:.2f}"] if score is not None else []
        if words:
            text = "  ".join(words)
            taken.append(_place(picture, text, _beside(box, text, scale), taken, scale))
            _plate(picture, text, taken[-1][:2], LOST_COLOUR if is_lost else colour, scale)
    facts = [f"frame {number}"] if number is not None else []
    facts += [f"{fps:.0f} FPS"] if fps is not None else []
    if facts:
        text = "  ".join(facts)
        left, top, *_ = _place(picture, text, _corners(picture, text, scale), taken, scale)
        _plate(picture, text, (left, top), (255, 255, 255), scale)
    return picture


def _path(picture: Frame, trail: npt.NDArray[np.float64], colour: Colour, scale: float) -> None:
    """A line through the centres that fades towards the oldest."""
    points = np.round(np.clip(trail, -1e6, 1e6) * (1 << _SHIFT)).astype(np.int32)
    for index in range(1, len(points)):
        share = index / len(points)
        faded = tuple(round(share * part + (1 - share) * ink) for part, ink in zip(colour, _INK, strict=True))
        width = max(1, round(2 * scale * share))
        start, end = points[index - 1].tolist(), points[index].tolist()
        cv2.line(picture, start, end, faded, width, cv2.LINE_AA, _SHIFT)


def _outline(picture: Frame, box: Box, colour: Colour, scale: float, *, dashed: bool) -> None:
    x, y, w, h = (float(value) for value in box)
    # OpenCV counts in 32-bit integers: a box far past any frame is drawn to there.
    corners = np.clip([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], -1e6, 1e6)
    strokes = _dashes(corners, 9 * scale) if dashed else [np.vstack([corners, corners[:1]])]
    width = max(2, round(2 * scale))
    for stroke_colour, stroke_width in (
        (_INK, width + 2),
        (colour, width),
    ):  # a dark rim for bright ground
        for stroke in strokes:
            points = np.round(stroke * (1 << _SHIFT)).astype(np.int32)
            cv2.polylines(picture, [points], False, stroke_colour, stroke_width, cv2.LINE_AA, _SHIFT)


def _dashes(corners: npt.NDArray[np.float64], length: float) -> list[npt.NDArray[np.float64]]:
    """The sides of the box cut so that each begins and ends with a dash."""
    dashes = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        parts = 2 * max(1, round(float(np.hypot(*(end - start))) / (2 * length))) + 1
        marks = [start + (end - start) * step / parts for step in range(parts + 1)]
        dashes += [np.array([marks[step], marks[step + 1]]) for step in range(0, parts, 2)]
    return dashes


def _rectangle(box: Box) -> Rectangle:
    x, y, w, h = np.clip(box, -1e6, 1e6).tolist()
    return round(x), round(y), round(w), round(h)


def _beside(box: Box, text: str, scale: float) -> list[tuple[float, float]]:
    """Where a box's plate may begin, best first: above, below, right, left, and inside at last."""
    wide, high = _plate_size(text, scale)
    x, y, w, h = np.clip(box, -1e6, 1e6).tolist()
    gap = 3 * scale
    above, below = y - high - gap, y + h + gap
    sides = [(x + w + gap, y), (x - wide - gap, y)]
    return [(x - scale, above), (x - scale, below), *sides, (x + w - wide, above), (x, y + gap)]


def _corners(picture: Frame, text: str, scale: float) -> list[tuple[float, float]]:
    """The frame's corners for a plate, top left first."""
    wide, high = _plate_size(text, scale)
    edge = 8 * scale
    right, bottom = picture.shape[1] - wide - edge, picture.shape[0] - high - edge
    return [(edge, edge), (right, edge), (edge, bottom), (right, bottom)]


def _place(
    picture: Frame, text: str, places: list[tuple[float, float]], taken: Sequence[Rectangle], scale: float
) -> Rectangle:
    """The first place, moved into the frame, where the plate covers nothing that is taken; else the last."""
    wide, high = _plate_size(text, scale)
    for left, top in places:
        inside_left = min(max(0, round(left)), max(0, picture.shape[1] - wide))
        inside_top = min(max(0, round(top)), max(0, picture.shape[0] - high))
        plate = (inside_left, inside_top, wide, high)
        if not any(_overlap(plate, other) for other in taken):
            break
    return plate


def _overlap(one: Rectangle, two: Rectangle) -> bool:
    return all(one[i] < two[i] + two[i + 2] and two[i] < one[i] + one[i + 2] for i in (0, 1))


def _text_size(text: str, scale: float) -> tuple[int, int, int]:
    """Width and height above the base line and depth below it, in pixels."""
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, _thickness(scale))
    return width, height, base


def _thickness(scale: float) -> int:
    return max(1, round(1.2 * scale))


def _plate_size(text: str, scale: float) -> tuple[int, int]:
    width, height, _ = _text_size(text, scale)
    return width + round(12 * scale), height + round(10 * scale)


def _plate(picture: Frame, text: str, corner: tuple[int, int], colour: Colour, scale: float) -> None:
    """`text` in `colour` on a dark, slightly see-through plate."""
    plate_width, plate_height = _plate_size(text, scale)
    left, top = corner
    area = picture[top : top + plate_height, left : left + plate_width]
    if area.size == 0:
        return
    area[:] = np.round(area * 0.22 + np.array(_INK) * 0.78).astype(np.uint8)
    _, height, _ = _text_size(text, scale)
    origin = (left + round(6 * scale), top + (plate_height + height) // 2)
    cv2.putText(
        picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, colour, _thickness(scale), cv2.LINE_AA
    )
