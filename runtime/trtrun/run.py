"""What trtrun does between its options and its files: the first boxes, then frame after frame."""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from jntrt.runtime.command.app import parse_numbers
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.runtime.tracker import Tracker

Frame = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float64]  # targets × 4: x, y, w, h in pixels

GROUND_TRUTH_NAMES = ("groundtruth.txt", "groundtruth_rect.txt")


@dataclass(frozen=True)
class Tracked:
    """The targets in one frame: `boxes` B×4, `scores` and `lost` per target, the tracker's own time."""

    frame: int
    boxes: Boxes
    scores: tuple[float | None, ...]  # None in frame 0, whose boxes were given
    lost: tuple[bool, ...]
    milliseconds: float

    def to_dict(self) -> dict[str, object]:
        """For JSON: one target's box is a list of four, several targets' a list of such lists."""
        single = len(self.boxes) == 1
        scores = [None if score is None else round(score, 6) for score in self.scores]
        return {
            "frame": self.frame,
            "box": _rounded(self.boxes[0]) if single else [_rounded(box) for box in self.boxes],
            "score": scores[0] if single else scores,
            "lost": self.lost[0] if single else list(self.lost),
            "milliseconds": round(self.milliseconds, 3),
        }


def follow(
    tracker: "Tracker", first: Frame, frames: Iterable[Frame], boxes: Boxes
) -> Iterator[tuple[Frame, Tracked]]:
    """Start `tracker` on `first` with `boxes` (B×4) and yield each frame, `first` too, with its boxes."""
    began = time.perf_counter()
    tracker.init(first, boxes[0] if len(boxes) == 1 else boxes)
    count = len(boxes)
    yield first, Tracked(0, boxes, (None,) * count, (False,) * count, 1e3 * (time.perf_counter() - began))
    for index, frame in enumerate(frames, start=1):
        began = time.perf_counter()
        result = tracker.update(frame)
        elapsed = 1e3 * (time.perf_counter() - began)
        scores = tuple(float(score) for score in np.atleast_1d(result.score))
        lost = tuple(bool(flag) for flag in np.atleast_1d(result.lost))
        yield frame, Tracked(index, np.reshape(result.box, (count, 4)), scores, lost, elapsed)


def given_boxes(init: list[str], init_file: Path | None, source: str) -> Boxes | None:
    """The first boxes (B×4) from `--init`, `--init-file`, or the ground truth in a sequence's folder.

    None where there is none of them: then the user has to draw. UserError where they cannot be read.
    """
    if init and init_file:
        raise UserError("--init and --init-file: give one of them")
    if init:
        return np.array([parse_numbers(text, "--init", 4) for text in init])
    if init_file:
        return first_box(init_file)[None]
    for name in GROUND_TRUTH_NAMES:
        if (Path(source) / name).is_file():
            return first_box(Path(source) / name)[None]
    return None


def first_box(path: Path) -> npt.NDArray[np.float64]:
    """The first line's box (4,) of an annotation file; commas, tabs and spaces all separate."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(f"{path}: no boxes can be read from it ({reason})") from None
    if not line:
        raise UserError(f"{path}: its first line is empty; it has to be x,y,w,h")
    return np.array(parse_numbers(",".join(re.split(r"[,\s]+", line)), f"{path}, line 1:", 4))


def check_boxes(boxes: Boxes, frame: Frame) -> None:
    """UserError where a box is smaller than a pixel or does not touch `frame`."""
    height, width = frame.shape[:2]
    for x, y, w, h in boxes:
        shown = f"the box {x:g},{y:g},{w:g},{h:g}"
        if w < 1 or h < 1:
            raise UserError(f"{shown} is smaller than a pixel (the order is x,y,w,h)")
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise UserError(f"{shown} lies outside the frame, which is {width}×{height}")


def _rounded(box: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in box]
