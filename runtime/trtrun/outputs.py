"""Where results go: a box file and an annotated video; both get their name only when they are whole."""

import json as json_module
import os
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, Self, TextIO

import numpy as np
import numpy.typing as npt
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.run import Tracked
from jntrt.runtime.video.drawing import annotate

if TYPE_CHECKING:
    import av
    import av.container

Frame = npt.NDArray[np.uint8]

DEFAULT_FPS = Fraction(30)
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}


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
    context in which frames are written. `paths` are the files that there will be.
    """

    def __init__(
        self, out: Path | None, save: Path | None, *, json: bool, targets: int, overwrite: bool
    ) -> None:
        self._box_paths = [numbered(out, index, targets) for index in range(targets)] if out else []
        self._save, self._json, self._lines = save, json, not (out or save or json)
        self._times: deque[float] = deque(maxlen=30)
        for path in self._box_paths:
            check_output(path, "--out", overwrite=overwrite)
        if save:
            check_output(save, "--save", overwrite=overwrite)
            if save.resolve() in [path.resolve() for path in self._box_paths]:
                raise UserError(f"--save {save}: is the name that --out has")
            if save.suffix.lower() not in _CONTAINERS:
                raise UserError(f"--save {save}: give a name that ends in {', '.join(_CONTAINERS)}")

    @property
    def paths(self) -> list[Path]:
        return self._box_paths + ([self._save] if self._save else [])

    @contextmanager
    def open(self, fps: Fraction | None) -> Iterator[Self]:
        """Open the files; on leaving, after an error too, they are finished and take their names."""
        with ExitStack() as stack:
            self._files = [stack.enter_context(BoxFile(path)) for path in self._box_paths]
            self._video = stack.enter_context(VideoWriter(self._save, fps)) if self._save else None
            yield self

    def write(self, frame: Frame, tracked: Tracked) -> None:
        """One frame (H×W×3 uint8 RGB) and the boxes in it."""
        for file, box in zip(self._files, tracked.boxes, strict=False):
            file.write(box)
        if self._video is not None:
            if tracked.frame > 0:  # frame 0 is the start of the tracker, not a step of it
                self._times.append(tracked.milliseconds)
            speed = 1e3 * len(self._times) / sum(self._times) if self._times else None
            self._video.write(annotate(frame, list(tracked.boxes), tracked.scores, tracked.lost, speed))
        if self._json:
            print(json_module.dumps(tracked.to_dict()), flush=True)
        elif self._lines:
            print(box_line(tracked.boxes.reshape(-1)), flush=True)


class BoxFile:
    """One line `x,y,w,h` (pixels, `%.3f`) per frame, frame 0 included. On closing it takes its name."""

    def __init__(self, path: Path) -> None:
        self.path, self._part, self._lines = path, _part_name(path), 0
        try:
            # Line by line on the disk, so that even a killed process leaves its boxes in the .part file.
            self._file: TextIO = self._part.open("w", encoding="ascii", buffering=1)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None

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
            os.replace(self._part, self.path)
        else:  # tracking never began: a file that is there already stays
            self._part.unlink(missing_ok=True)


def box_line(box: npt.NDArray[np.float64]) -> str:
    """`x,y,w,h` with three digits, as the GOT-10k toolkit reads it."""
    return ",".join(f"{value:.3f}" for value in box)


class VideoWriter:
    """Writes RGB frames to a file as H.264 that browsers play (yuv420p, index in front), in its own thread.

    The size is that of the first frame; an odd width or height, which yuv420p cannot hold, gains one repeated
    row or column. Leaving the context finishes the file, after an error too: what was written can be watched.
    """

    def __init__(self, path: Path, fps: Fraction | None) -> None:
        self.path, self._part, self._fps = path, _part_name(path), fps or DEFAULT_FPS
        self._queue: Queue[Frame | None] = Queue(4)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="encode", daemon=True)
        self._thread.start()

    def write(self, frame: Frame) -> None:
        """Append a frame (H×W×3 uint8 RGB), which must not be changed afterwards."""
        if self._error is not None:
            raise self._failed()
        self._queue.put(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            self._part.unlink(missing_ok=True)
            if kind is None:  # an error that is on its way already says more
                raise self._failed()
        elif self._part.exists():
            os.replace(self._part, self.path)

    def _failed(self) -> UserError:
        reason = getattr(self._error, "strerror", None) or str(self._error)
        return UserError(f"{self.path}: the video cannot be written ({reason})")

    def _work(self) -> None:
        container: av.container.OutputContainer | None = None
        stream: Any = None
        try:
            while (frame := self._queue.get()) is not None:
                if self._error is not None:
                    continue  # empty the queue, so that nobody waits for room in it
                try:
                    if container is None:
                        container, stream = self._open(frame)
                    self._encode(container, stream, frame)
                except BaseException as error:  # raised in the thread that writes
                    self._error = error
            if container is not None and self._error is None:
                container.mux(stream.encode(None))
        except BaseException as error:  # the last packets did not fit on the disk
            self._error = error
        finally:
            if container is not None:
                try:
                    container.close()
                except BaseException as error:  # nor did the index
                    self._error = self._error or error

    def _open(self, frame: Frame) -> tuple["av.container.OutputContainer", Any]:
        import av

        kind = _CONTAINERS[self.path.suffix.lower()]
        options = {"movflags": "faststart"} if kind in ("mp4", "mov") else {}
        container = av.open(str(self._part), "w", format=kind, options=options)
        stream = container.add_stream("libx264", rate=self._fps)
        height, width = frame.shape[:2]
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        stream.codec_context.thread_count = 2  # the other cores belong to the network
        return container, stream

    def _encode(self, container: "av.container.OutputContainer", stream: Any, frame: Frame) -> None:
        import av

        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if frame.shape[:2] != (stream.height, stream.width):
            raise UserError(f"a frame of {width}×{height} after frames of {stream.width}×{stream.height}")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        container.mux(stream.encode(picture))


def _part_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def numbered(path: Path, index: int, count: int) -> Path:
    """The file of target `index` of `count`: `boxes.txt` where there is one, else `boxes.1.txt` …"""
    return path if count == 1 else path.with_name(f"{path.stem}.{index + 1}{path.suffix}")
