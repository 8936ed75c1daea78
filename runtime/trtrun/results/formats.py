"""Box files that other tools read: MOTChallenge lines, CSV, and COCO's annotations.

Unlike lines of boxes alone they name frame and target, so that one file holds all targets and a frame that is
missing in the source is missing in them.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from typing_extensions import Self

from jntrt.runtime.command.files import Replacement
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.results.tracked import Tracked

SUFFIXES = {"txt": ".txt", "mot": ".txt", "csv": ".csv", "coco": ".json"}
CSV_HEADER = "frame,target,x,y,w,h,score,lost"


def mot_lines(tracked: Tracked) -> list[str]:
    """MOTChallenge's columns: frame and target from 1, x, y, w, h in pixels, confidence, and three unused.

    A given box has confidence 1.
    """
    return [
        f"{tracked.frame + 1},{target + 1},{_numbers(box)},{1.0 if score is None else score:.6f},-1,-1,-1"
        for target, (box, score) in enumerate(zip(tracked.boxes, tracked.scores, strict=True))
    ]


def csv_lines(tracked: Tracked) -> list[str]:
    """`CSV_HEADER`'s columns: frame from 0, target from 1; no score for a given box; lost as 0 or 1."""
    rows = zip(tracked.boxes, tracked.scores, tracked.lost, strict=True)
    return [
        f"{tracked.frame},{target},{_numbers(box)},{'' if score is None else f'{score:.6f}'},{int(lost)}"
        for target, (box, score, lost) in enumerate(rows, start=1)
    ]


class LinesFile:
    """A text file to which each frame adds lines, at once on the disk; on leaving it takes its name."""

    def __init__(
        self, path: Path, lines: Callable[[Tracked], list[str]], header: str = "", *, overwrite: bool
    ) -> None:
        self.path, self._lines, self._written = path, lines, False
        self._replacement = Replacement(path, overwrite=overwrite)
        self._file = self._replacement.part.open("w", encoding="ascii", buffering=1)
        self._file.write(header)

    def write(self, tracked: Tracked, size: tuple[int, int]) -> None:
        """Append a frame's lines."""
        try:
            self._file.writelines(line + "\n" for line in self._lines(tracked))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written any further ({error.strerror})") from None
        self._written = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # a full disk was told by `write`
            self._file.close()
        if self._written:
            self._replacement.commit()
        else:
            self._replacement.discard()


class CocoFile:
    """COCO's annotation file: an image for each frame, an annotation for each target in it, with its score.

    `track_id` counts targets from 1. `image_id` is the frame's number plus 1.
    """

    def __init__(self, path: Path, source: str, *, overwrite: bool) -> None:
        self.path, self._source = path, source
        self._replacement = Replacement(path, overwrite=overwrite)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(self, tracked: Tracked, size: tuple[int, int]) -> None:
        """Take a frame of `size` (width, height)."""
        image = tracked.frame + 1
        name = f"{self._source}#{tracked.frame}"
        self._images.append({"id": image, "file_name": name, "width": size[0], "height": size[1]})
        for target, (box, score) in enumerate(zip(tracked.boxes.tolist(), tracked.scores, strict=True)):
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "track_id": target + 1,
                    "bbox": [round(value, 3) for value in box],
                    "area": round(box[2] * box[3], 3),
                    "iscrowd": 0,
                    "score": 1.0 if score is None else round(score, 6),
                    "lost": tracked.lost[target],
                }
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._images:
            self._replacement.discard()
            return
        categories = [{"id": 1, "name": "target"}]
        whole = {"images": self._images, "annotations": self._annotations, "categories": categories}
        try:
            self._replacement.part.write_text(json.dumps(whole), encoding="ascii")
        except OSError as failed:
            self._replacement.discard()
            raise UserError(f"{self.path}: cannot be written ({failed.strerror})") from None
        self._replacement.commit()


def table(path: Path, kind: str, source: str, *, overwrite: bool) -> LinesFile | CocoFile:
    """The file of `kind`: mot, csv or coco."""
    if kind == "coco":
        return CocoFile(path, source, overwrite=overwrite)
    if kind == "csv":
        return LinesFile(path, csv_lines, CSV_HEADER + "\n", overwrite=overwrite)
    return LinesFile(path, mot_lines, overwrite=overwrite)


def _numbers(box: Any) -> str:
    return ",".join(f"{value:.3f}" for value in box)
