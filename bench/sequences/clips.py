"""Annotated sequences, whatever they are stored as: one reader for benches, calibration and training.

Layouts, told apart by what lies in a folder:

| layout | annotation | frames |
|---|---|---|
| GOT-10k | `groundtruth.txt`, `absence.label`, `cover.label` (the last two optional) | `*.jpg` beside it |
| LaSOT | `groundtruth.txt`, `full_occlusion.txt`, `out_of_view.txt` | `img/*.jpg` |
| OTB | `groundtruth_rect.txt`, or one `groundtruth_rect.K.txt` per target | `img/*.jpg` |
| TrackingNet | `anno/NAME.txt` | `frames/NAME/*.jpg` |
| video | `NAME.csv` (header `frame,x,y,w,h`, empty fields: no target) | `NAME.mp4` (or another container) |

Numbers may be separated by commas, tabs, semicolons or spaces. Boxes are taken as the files have them: the
1-based corner of OTB and GOT-10k is not made 0-based, as the official toolkits do not do it either.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.sequences.pixels import read_image, video_fps, video_frames
from jntrt.runtime.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")
MAX_DEPTH = 3  # LaSOT lies two folders deep (class/name), GOT-10k two (subset/name); one more for a parent

# OTB annotates a part of this sequence only; the others of that kind end early, which their line count tells.
_OTB_FIRST_FRAME = {"david": 300}


@dataclass(frozen=True, eq=False)
class Clip:
    """One target in one video.

    boxes: N×4 float64, x, y, w, h in pixels; a row of NaN where the target is absent.
    visible: N bool; False where the target is absent, covered entirely, or has a box without area. Frames
        that are not visible do not count in overlap measures.
    fps: frames per second where the container says it, else None.
    absence_annotated: whether the annotation could say that the target is absent (presence measures need it).
    first_only: the test sets of GOT-10k and TrackingNet say where the target is in the first frame alone.
    """

    name: str
    source: Path
    boxes: NDArray[np.float64]
    visible: NDArray[np.bool_]
    images: tuple[Path, ...] = ()
    fps: float | None = None
    absence_annotated: bool = False
    first_only: bool = False

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def absent(self) -> NDArray[np.bool_]:
        """N bool: frames in which the target is annotated as absent."""
        return _without_numbers(self.boxes)

    def absolute(self) -> "Clip":
        """The same clip with absolute paths, for a process in another folder."""
        return replace(
            self, source=self.source.absolute(), images=tuple(path.absolute() for path in self.images)
        )

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """The N frames in order, H×W×3 uint8 RGB, decoded one by one; UserError where one is unreadable."""
        if self.images:
            for path in self.images:
                yield read_image(path)
        else:
            yield from video_frames(self.source, len(self))

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`, H×W×3 uint8 RGB. For a video this decodes from the start: read it with `frames`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.images:
            return read_image(self.images[index])
        for number, frame in enumerate(self.frames()):
            if number == index:
                return frame
        raise UserError(f"{self.source}: no frame {index}")


def load_clips(source: str | Path | Iterable[str | Path]) -> list[Clip]:
    """All annotated sequences at `source`, sorted by name within a folder.

    source: a sequence folder, an annotated video (or its CSV), a folder of any of these, a text file that
        lists such paths (one a line, relative to the file), or several of them.
    UserError: nothing there, nothing annotated, or an annotation that does not fit its frames.
    """
    if not isinstance(source, str | Path):
        return _unique([sequence for item in source for sequence in load_clips(item)])
    path = Path(source)
    if path.name in ("", ".."):  # "." has no name, and a sequence's name becomes that of its result folder
        path = path.resolve()
    if not path.exists():
        raise UserError(
            f"{path}: no such file or folder; give a sequence folder, an annotated video or a list"
        )
    if path.is_file():
        return _from_file(path)
    found = _from_folder(path, MAX_DEPTH)
    if not found:
        raise UserError(
            f"{path}: no annotated sequence; expected groundtruth.txt and frames, or NAME.mp4 and NAME.csv"
        )
    return _unique(found)


def _from_file(path: Path) -> list[Clip]:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        if not path.with_suffix(".csv").exists():
            raise UserError(f"{path}: no annotation; expected {path.with_suffix('.csv').name} beside it")
        return [_annotated_video(path)]
    if path.suffix.lower() == ".csv":
        video = _video_of(path)
        if video is None:
            raise UserError(f"{path}: no video of the same name beside it")
        return [_annotated_video(video)]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise UserError(f"{path}: neither a video nor a text list of sequences") from None
    entries = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UserError(f"{path}: the list is empty")
    for entry in entries:  # a list of lists could list itself
        if entry.is_file() and entry.suffix.lower() not in (*VIDEO_SUFFIXES, ".csv"):
            raise UserError(f"{path}: lists {entry.name}, which is no sequence folder and no annotated video")
    return _unique([sequence for entry in entries for sequence in load_clips(entry)])


def _from_folder(folder: Path, depth: int) -> list[Clip]:
    if (folder / "groundtruth.txt").is_file():
        return [_image_sequence(folder, folder / "groundtruth.txt", folder.name)]
    targets = sorted(folder.glob("groundtruth_rect*.txt"))
    if targets:
        return _otb(folder, targets)
    if (folder / "anno").is_dir() and (folder / "frames").is_dir():
        annotations = sorted((folder / "anno").glob("*.txt"))
        return [_image_sequence(folder / "frames" / file.stem, file, file.stem) for file in annotations]
    found = [_annotated_video(video) for file in sorted(folder.glob("*.csv")) if (video := _video_of(file))]
    if depth > 0:
        for child in sorted(child for child in folder.iterdir() if child.is_dir()):
            found += _from_folder(child, depth - 1)
    return found


def _video_of(annotation: Path) -> Path | None:
    candidates = (annotation.with_suffix(suffix) for suffix in VIDEO_SUFFIXES)
    return next((video for video in candidates if video.is_file()), None)


def _otb(folder: Path, targets: list[Path]) -> list[Clip]:
    # An empty file stands beside the real ones of some multi-target sequences (Human4).
    targets = [file for file in targets if file.read_text(encoding="utf-8", errors="replace").strip()]
    names = [folder.name] if len(targets) == 1 else [f"{folder.name}.{k + 1}" for k in range(len(targets))]
    first = _OTB_FIRST_FRAME.get(folder.name.lower(), 1) - 1
    return [
        _image_sequence(folder, file, name, first, whole=False)
        for file, name in zip(targets, names, strict=True)
    ]


def _image_sequence(folder: Path, annotation: Path, name: str, first: int = 0, *, whole: bool = True) -> Clip:
    where = folder / "img" if (folder / "img").is_dir() else folder
    images = (
        [file for file in where.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES] if where.is_dir() else []
    )
    images.sort(key=_frame_order)
    if not images:
        raise UserError(f"{where}: no frames (*.jpg, *.png) for {annotation.name}")
    boxes = _read_boxes(annotation)
    if not whole:
        # David has 770 images as published; a copy that was cut to the annotated part has as many as boxes.
        images = images[first if len(images) > len(boxes) else 0 :][: len(boxes)]
    if whole and len(boxes) == 1 < len(images):
        withheld = np.vstack([boxes, np.full((len(images) - 1, 4), np.nan)])
        clip = _sequence(name, folder, withheld, _without_numbers(withheld), None, False, tuple(images))
        return replace(clip, first_only=True)
    if len(boxes) != len(images):
        raise UserError(f"{annotation}: {len(boxes)} boxes for {len(images)} frames")
    absent, annotated = _absence(annotation, len(boxes))
    cover = _labels(annotation.parent / "cover.label", len(boxes))
    return _sequence(name, folder, boxes, absent, cover, annotated, tuple(images))


def _annotated_video(video: Path) -> Clip:
    annotation = video.with_suffix(".csv")
    lines = annotation.read_text(encoding="utf-8", errors="replace").splitlines()
    header = [field.strip().lower() for field in lines[0].split(",")] if lines else []
    if header != ["frame", "x", "y", "w", "h"]:
        raise UserError(f"{annotation}: the first line has to be frame,x,y,w,h")
    rows = [[field.strip() for field in line.split(",")] for line in lines[1:] if line.strip()]
    boxes = np.full((len(rows), 4), np.nan)
    for number, row in enumerate(rows):
        if len(row) != 5 or row[0] != str(number):
            raise UserError(
                f"{annotation}: line {number + 2} has to be frame {number} with x,y,w,h (or nothing)"
            )
        if any(row[1:]):
            boxes[number] = _numbers(row[1:], annotation, number + 2)
    if not len(rows):
        raise UserError(f"{annotation}: no boxes")
    return _sequence(video.stem, video, boxes, _without_numbers(boxes), None, True, (), video_fps(video))


def _sequence(
    name: str,
    source: Path,
    boxes: NDArray[np.float64],
    absent: NDArray[np.bool_],
    cover: NDArray[np.float64] | None,
    annotated: bool,
    images: tuple[Path, ...],
    fps: float | None = None,
) -> Clip:
    boxes = boxes.copy()
    boxes[absent] = np.nan
    visible: NDArray[np.bool_] = np.logical_and(boxes[:, 2] > 0, boxes[:, 3] > 0)
    if cover is not None:
        visible[cover <= 0] = False
    boxes.setflags(write=False)
    visible.setflags(write=False)
    return Clip(name, source, boxes, visible, images, fps, annotated)


def _without_numbers(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = np.logical_or.reduce(np.isnan(boxes), axis=1)
    return missing


def _absence(annotation: Path, count: int) -> tuple[NDArray[np.bool_], bool]:
    absent = _without_numbers(_read_boxes(annotation))
    annotated = bool(absent.any())
    for name in ("absence.label", "full_occlusion.txt", "out_of_view.txt"):
        labels = _labels(annotation.parent / name, count)
        if labels is not None:
            absent |= labels > 0
            annotated = True
    return absent, annotated


def _labels(path: Path, count: int) -> NDArray[np.float64] | None:
    """One number per frame, on lines of their own (GOT-10k) or on one line (LaSOT); None without the file."""
    if not path.is_file():
        return None
    fields = re.split(r"[\s,;]+", path.read_text(encoding="utf-8", errors="replace").strip())
    labels = np.array(_numbers(fields, path, 1))
    if len(labels) != count:
        raise UserError(f"{path}: {len(labels)} labels for {count} boxes")
    return labels


def _read_boxes(path: Path) -> NDArray[np.float64]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if line.strip():
            fields = [field for field in re.split(r"[\s,;]+", line.strip()) if field]
            if len(fields) != 4:
                raise UserError(f"{path}: line {number} has {len(fields)} numbers, a box has 4 (x,y,w,h)")
            rows.append(_numbers(fields, path, number))
    if not rows:
        raise UserError(f"{path}: no boxes")
    return np.array(rows, dtype=np.float64)


def _numbers(fields: list[str], path: Path, line: int) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError:
        raise UserError(f"{path}: line {line} holds something that is not a number") from None
    if any(math.isinf(value) for value in values):
        raise UserError(f"{path}: line {line} holds a number that is infinite")
    return values


def _frame_order(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else 0, path.name)


def _unique(sequences: list[Clip]) -> list[Clip]:
    """Result files are named by sequence: two of the same name would overwrite each other."""
    seen: dict[str, Path] = {}
    for sequence in sequences:
        if sequence.name in seen:
            raise UserError(
                f"two sequences are called {sequence.name}: {seen[sequence.name]} and {sequence.source}; "
                "rename one or run them apart"
            )
        seen[sequence.name] = sequence.source
    return sequences
