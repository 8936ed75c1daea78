"""What is drawn on a frame: box, score, speed, and that a target is lost; readable on any background."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Box = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

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
    fps: float | None,
) -> Frame:
    """A copy of `frame` (H×W×3 uint8 RGB) with each target's box (x,y,w,h in pixels), its score and the FPS.

    A lost target's box is dashed and says so. A score of None (frame 0) shows no number.
    """
    picture = frame.copy()
    scale = max(1.0, min(frame.shape[:2]) / 480)
    for index, (box, score, is_lost) in enumerate(zip(boxes, scores, lost, strict=True)):
        colour = LOST_COLOUR if is_lost else COLOURS[index % len(COLOURS)]
        _outline(picture, box, colour, scale, dashed=is_lost)
        words = [str(index + 1)] if len(boxes) > 1 else []
        words += ["lost"] if is_lost else []
        words += [f"{score:.2f}"] if score is not None else []
        if words:
            _label(picture, "  ".join(words), box, colour, scale)
    if fps is not None:
        _plate(picture, f"{fps:.0f} FPS", (round(8 * scale), round(8 * scale)), (255, 255, 255), scale)
    return picture


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


def _label(picture: Frame, text: str, box: Box, colour: Colour, scale: float) -> None:
    """A plate above the box; below or inside where there is no room."""
    height, width = picture.shape[:2]
    plate_width, plate_height = _plate_size(text, scale)
    x, y, _, h = (float(value) for value in box)
    top = y - plate_height - 3 * scale
    if top < 0:
        top = y + h + 3 * scale
    if top + plate_height > height:
        top = y + 3 * scale
    left = min(max(0.0, x - scale), max(0.0, width - plate_width))
    top = min(max(0.0, top), max(0.0, height - plate_height))
    _plate(picture, text, (round(left), round(top)), colour, scale)


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
