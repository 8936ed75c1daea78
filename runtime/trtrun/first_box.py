"""Where the first boxes come from: the options, a file, or the ground truth beside the frames."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jntrt.runtime.command.lists import parse_numbers
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.results.tracked import Boxes

Frame = npt.NDArray[np.uint8]

GROUND_TRUTH_NAMES = ("groundtruth.txt", "groundtruth_rect.txt")
_COLUMNS = (("x",), ("y",), ("w", "width"), ("h", "height"))
_MOT_FIELDS = 10  # frame, target, x, y, w, h, score and three more
_LARGEST = 1 << 24  # bytes of a file of boxes


def given_boxes(init: list[str], init_file: Path | None, source: str) -> Boxes | None:
    """The first boxes (B×4) from `--init`, `--init-file`, or the ground truth in a sequence's folder.

    None where there is none of them: then the user has to draw. UserError where they cannot be read.
    """
    if init and init_file:
        raise UserError("--init and --init-file: give one of them")
    if init:
        return np.array([parse_numbers(text, "--init", 4) for text in init])
    if init_file:
        return first_boxes(init_file)
    for name in GROUND_TRUTH_NAMES:
        if (Path(source) / name).is_file():
            return first_boxes(Path(source) / name)
    return None


def first_boxes(path: Path) -> Boxes:
    """The boxes (B×4) of a file's first frame.

    A line x,y,w,h (commas, semicolons, tabs and spaces all separate), after a header line such as
    `frame,x,y,w,h` or none; MOTChallenge's lines; COCO annotations; JSON or JSON lines as trtrun writes them:
    an object with `box`, a list of four numbers, or a list of either, whose first is taken. Raises UserError
    where no box can be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_LARGEST).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(f"{path}: no boxes can be read from it ({reason})") from None
    if not text:
        raise UserError(f"{path}: its first line is empty; it has to be x,y,w,h")
    if text[0] in "[{":
        return _of_json(text, path)
    header, *rest = text.splitlines()
    columns = _columns(header)
    if columns is None:
        fields = re.split(r"[,;\s]+", header.strip())
        if len(fields) != _MOT_FIELDS:
            return np.array([_numbers(fields, f"{path}, line 1:")])
        return np.array(_first_rows(enumerate([header, *rest], 1), [2, 3, 4, 5], 0, path))
    if not rest:
        raise UserError(f"{path}: a header line, and no box after it")
    frame = _names(header).index("frame") if "frame" in _names(header) else None
    return np.array(_first_rows(enumerate(rest, 2), columns, frame, path))


def _first_rows(
    lines: Iterable[tuple[int, str]], columns: list[int], frame: int | None, path: Path
) -> list[tuple[float, ...]]:
    """The boxes of the first line, and of those after it with the same number in the column `frame`."""
    boxes: list[tuple[float, ...]] = []
    first = ""
    for number, line in lines:
        fields = re.split(r"[,;\t]", line.strip())
        if boxes and (frame is None or len(fields) <= frame or fields[frame] != first):
            break
        if len(fields) <= max(columns):
            raise UserError(f"{path}, line {number}: {len(fields)} fields, its first line has more")
        first = "" if frame is None else fields[frame]
        boxes.append(_numbers([fields[column] for column in columns], f"{path}, line {number}:"))
    return boxes


def check_boxes(boxes: Boxes, frame: Frame) -> None:
    """UserError where a box is smaller than a pixel or does not touch `frame`."""
    height, width = frame.shape[:2]
    for x, y, w, h in boxes:
        shown = f"the box {x:g},{y:g},{w:g},{h:g}"
        if w < 1 or h < 1:
            raise UserError(f"{shown} is smaller than a pixel (the order is x,y,w,h)")
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise UserError(f"{shown} lies outside the frame, which is {width}×{height}")


def _columns(header: str) -> list[int] | None:
    """Where x, y, w and h stand in a header line; None where the line is no header."""
    names = _names(header)
    found = [next((names.index(name) for name in known if name in names), -1) for known in _COLUMNS]
    return None if -1 in found else found


def _names(header: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in re.split(r"[,;\t]", header)]


def _numbers(fields: list[str], where: str) -> tuple[float, ...]:
    return parse_numbers(",".join(fields), where, 4)


def _of_coco(annotations: list[object]) -> list[object]:
    """The boxes of the first annotation's image."""
    rows = [row for row in annotations if isinstance(row, dict)]
    return [row.get("bbox") for row in rows if row.get("image_id") == rows[0].get("image_id")]


def _of_json(text: str, path: Path) -> Boxes:
    value: object = None
    for part in (text.split("\n", 1)[0], text):  # JSON lines, else one document
        try:
            value = json.loads(part)
            break
        except (ValueError, RecursionError):
            continue
    while isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        value = value[0]  # the first frame's
    if isinstance(value, dict):
        annotations = value.get("annotations")
        value = _of_coco(annotations) if isinstance(annotations, list) else value.get("box")
    try:
        boxes = np.atleast_2d(np.array(value, np.float64))
    except (TypeError, ValueError):
        boxes = np.empty((0, 0))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or not np.isfinite(boxes).all():
        raise UserError(
            f"{path}: no box in its first frame; expected [x,y,w,h], or an object with such a box"
        )
    return boxes
