"""Where results go: box files, an annotated video, and lines on stdout.

A frame that is missing in a damaged source repeats the boxes before it in a box file and on stdout, and the
picture before it in the video, so that line and picture N stay the source's frame N; JSON lines leave it out.
"""

import json as json_module
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from jntrt.runtime.command.files import Replacement
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.results.formats import CocoFile, LinesFile, table
from jntrt.runtime.trtrun.results.tracked import Tracked
from jntrt.runtime.video.drawing import annotate
from jntrt.runtime.video.writer import CONTAINERS, Draw, Encoding, Timed, VideoWriter

Frame = npt.NDArray[np.uint8]


def check_output(path: Path, flag: str, *, overwrite: bool) -> None:
    """UserError where `path` cannot be written: it exists already, or its folder does not."""
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder; give a file name")
    if path.exists() and not path.is_file():  # a device or a pipe: moving the result there would replace it
        raise UserError(f"{flag} {path}: is no regular file; give another name")
    if path.exists() and not overwrite:
        raise UserError(f"{flag} {path}: exists already; say --overwrite or give another name")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{flag} {path}: its folder does not exist")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(f"{flag} {path}: its folder cannot be written to")


class Outputs:
    """Everything that one run of trtrun writes: box files, annotated video, lines on stdout.

    Made before anything slow begins, so that a name that cannot be written is refused at once; `open` is the
    context in which frames are written. `paths` are the files that there will be, `on_terminal` tells that
    lines go to a terminal, where no bar has room beside them. Boxes alone are not written to a terminal.

    kind: of the box file: txt, mot, csv or coco. trail: frames of a target's path that are drawn. every: the
    step between the frames' numbers. named: JSON lines name the source. timed: as the `VideoWriter`'s.
    """

    def __init__(
        self,
        out: Path | None,
        save: Path | None,
        *,
        json: bool,
        targets: int,
        overwrite: bool,
        encoding: Encoding | None = None,
        kind: str = "txt",
        trail: int = 0,
        every: int = 1,
        named: bool = False,
        timed: Timed | None = None,
    ) -> None:
        files = targets if kind == "txt" else 1
        self._box_paths = [numbered(out, index, files) for index in range(files)] if out else []
        self._kind, self._every, self._named, self._timed = kind, every, named, timed
        self._trails: deque[npt.NDArray[np.float64]] = deque(maxlen=trail)
        self._save, self._json, self._overwrite, self._encoding = save, json, overwrite, encoding
        self._lines = not (out or save or json or sys.stdout.isatty())
        self.on_terminal = json and sys.stdout.isatty()
        for path in self._box_paths:
            check_output(path, "--out", overwrite=overwrite)
        if save:
            check_output(save, "--save", overwrite=overwrite)
            if save.resolve() in [path.resolve() for path in self._box_paths]:
                raise UserError(f"--save {save}: is the name that --out has")
            if save.suffix.lower() not in CONTAINERS:
                raise UserError(f"--save {save}: give a name that ends in {', '.join(CONTAINERS)}")

    @property
    def paths(self) -> list[Path]:
        return self._box_paths + ([self._save] if self._save else [])

    @contextmanager
    def open(self, fps: Fraction | None, source: str = "") -> Iterator[Self]:
        """Open the files; on leaving, after an error too, they are finished and take their names."""
        self._source = source
        self._before: tuple[Frame, Draw, Tracked] | None = None
        with ExitStack() as stack:
            replace = self._overwrite
            self._files: list[BoxFile] = []
            self._table: LinesFile | CocoFile | None = None
            if self._kind == "txt":
                self._files = [
                    stack.enter_context(BoxFile(path, overwrite=replace)) for path in self._box_paths
                ]
            elif self._box_paths:
                self._table = table(self._box_paths[0], self._kind, source, overwrite=replace)
                stack.enter_context(self._table)
            self._video = None
            if self._save:
                writer = VideoWriter(self._save, fps, self._encoding, overwrite=replace, timed=self._timed)
                self._video = stack.enter_context(writer)
            yield self

    def write(self, frame: Frame, tracked: Tracked, fps: float | None) -> None:
        """One frame (H×W×3 uint8 RGB), the boxes in it, and the run's speed, which is drawn."""
        draw = self._drawing(tracked, fps)
        if self._before is not None:
            old_frame, old_draw, old = self._before
            for _ in range(old.frame + self._every, tracked.frame, self._every):
                self._boxes(old)
                if self._video is not None:
                    self._video.write(old_frame, old_draw)
        self._boxes(tracked)
        if self._video is not None:
            self._video.write(frame, draw)
        if self._table is not None:
            self._table.write(tracked, (frame.shape[1], frame.shape[0]))
        if self._json:
            name = {"source": self._source} if self._named else {}
            print(json_module.dumps({**name, **tracked.to_dict()}), flush=True)
        self._before = frame, draw, tracked

    def _drawing(self, tracked: Tracked, fps: float | None) -> Draw:
        """What draws this frame's boxes, and where the targets were before."""
        self._trails.append(tracked.boxes[:, :2] + tracked.boxes[:, 2:] / 2)
        trails = np.array(self._trails).transpose(1, 0, 2) if self._trails else np.empty((0, 0, 2))

        def draw(picture: Frame, scale: float) -> Frame:
            boxes, number = list(tracked.boxes * scale), tracked.frame
            return annotate(
                picture, boxes, tracked.scores, tracked.lost, fps, number=number, trails=list(trails * scale)
            )

        return draw

    def _boxes(self, tracked: Tracked) -> None:
        for file, box in zip(self._files, tracked.boxes, strict=False):
            file.write(box)
        if self._lines:
            print(box_line(tracked.boxes.reshape(-1)), flush=True)


class BoxFile:
    """One line `x,y,w,h` (pixels, `%.3f`) per frame, frame 0 included. On closing it takes its name."""

    def __init__(self, path: Path, *, overwrite: bool = True) -> None:
        self.path, self._lines = path, 0
        self._replacement = Replacement(path, overwrite=overwrite)
        # Line by line on the disk, so that even a killed process leaves its boxes in the .part file.
        self._file: TextIO = self._replacement.part.open("w", encoding="ascii", buffering=1)

    def write(self, box: npt.NDArray[np.float64]) -> None:
        """Append one box (4,)."""
        try:
            self._file.write(box_line(box) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written any further ({error.strerror})") from None
        self._lines += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # a full disk was told by `write`
            self._file.close()
        if self._lines:
            self._replacement.commit()
        else:  # tracking never began: a file that is there already stays
            self._replacement.discard()


def box_line(box: npt.NDArray[np.float64]) -> str:
    """`x,y,w,h` with three digits, as the GOT-10k toolkit reads it."""
    return ",".join(f"{value:.3f}" for value in box)


def numbered(path: Path, index: int, count: int) -> Path:
    """The file of target `index` of `count`: `boxes.txt` where there is one, else `boxes.1.txt` …"""
    return path if count == 1 else path.with_name(f"{path.stem}.{index + 1}{path.suffix}")
