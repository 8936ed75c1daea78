"""Frames from anywhere: one iterator of RGB frames for a video file, images, a camera or a stream.

PyAV rather than OpenCV for videos: it brings its own FFmpeg with H.264 on every platform, says why a file
cannot be read, and tells the rotation that phones write into it.
"""

import logging
import re
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from jntrt.runtime.errors import UserError
from jntrt.runtime.video.decode_ahead import Ahead

if TYPE_CHECKING:
    import av
    import av.container

log = logging.getLogger(__name__)

Frame = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_LIVE_SCHEMES = {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "mms"}
OPEN_SECONDS, READ_SECONDS = 10.0, 15.0  # how long a stream may stay silent
# FFmpeg "plays" any text file with these demuxers.
_TEXT_FORMATS = {"tty", "bintext", "xbin", "idf", "adf"}


class StreamError(UserError):
    """A source that gave frames and then broke: what came before it is sound."""


@dataclass(frozen=True)
class Opened:
    """A source as its opener returns it. `length` is what the header promises and may be wrong."""

    frames: Generator[Frame, None, None]
    fps: Fraction | None = None
    length: int | None = None
    live: bool = False


class Frames:
    """Iterator of RGB frames (H×W×3 uint8) of one source; a context manager.

    `name` is the source in words, `fps` its frame rate (None where it has none), `length` the number of
    frames that its header promises (None where unknown), `live` whether frames come at their own pace.
    Iterating raises `StreamError` where the source breaks midway.
    """

    def __init__(self, name: str, opened: Opened, ahead: int) -> None:
        self.name, self.fps, self.length, self.live = name, opened.fps, opened.length, opened.live
        self._source = opened.frames
        self._reader = Ahead(opened.frames, ahead, newest=opened.live) if ahead > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._source) if self._reader is None else self._reader.next()

    def close(self) -> None:
        if self._reader is None:
            self._source.close()
        else:
            self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def frames(source: str | Path | int, *, ahead: int = 4) -> Frames:
    """Open `source` and return its frames, decoded up to `ahead` frames early in a thread (0: no thread).

    source: a video file, an image, a folder of images (GOT-10k sequences; OTB's `img/` inside one), a glob in
        quotes, a camera's number, or a stream's URL.
    A camera and a live stream keep only the newest frame: a tracker slower than they are sees fewer frames,
    not old ones. A file that is read over http is tracked whole.
    Raises UserError, one line per cause, where the source cannot be opened.
    """
    name = _without_password(str(source))
    return Frames(name, _opener(source)(), ahead)


def _opener(source: str | Path | int) -> Callable[[], Opened]:
    text = str(source)
    path = Path(text)
    if not text:  # Path("") would be the working folder
        raise UserError("no source: give a video, a folder of images, a camera's number or a stream's URL")
    if isinstance(source, int) or (re.fullmatch(r"\d+", text) and not path.exists()):
        return lambda: _camera(int(text))
    if "://" in text:
        live = text.split("://")[0] in _LIVE_SCHEMES
        return lambda: _video(text, live=live)
    if path.is_dir():
        return lambda: _image_list(text, _images_in(path))
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return lambda: _image_list(text, [path])
        return lambda: _video(text, live=False)
    if any(character in text for character in "*?["):
        return lambda: _image_list(text, _natural_order(Path(match) for match in glob(text, recursive=True)))
    raise UserError(f"{text}: no such file or folder (nor a camera number, a stream URL, a glob in quotes)")


# --- images


def _images_in(folder: Path) -> list[Path]:
    found = _natural_order(folder.iterdir())
    if not found and (folder / "img").is_dir():  # OTB and LaSOT keep the frames one folder further down
        found = _natural_order((folder / "img").iterdir())
    return found


def _natural_order(paths: Iterator[Path]) -> list[Path]:
    """Images among `paths`, frame 9 before frame 10."""

    def key(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", str(path))]

    return sorted((path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES), key=key)


def _image_list(name: str, paths: list[Path]) -> Opened:
    if not paths:
        raise UserError(f"{name}: no images there ({', '.join(sorted(IMAGE_SUFFIXES))})")

    def read() -> Generator[Frame, None, None]:
        for index, path in enumerate(paths):
            try:
                yield read_image(path)
            except UserError as error:
                if index == 0:
                    raise
                raise StreamError(f"{error}; the {index} frames before it are kept") from None

    return Opened(read(), length=len(paths))


def read_image(path: Path) -> Frame:
    """The image as RGB, H×W×3 uint8, turned upright as its EXIF says; UserError where it cannot be read."""
    import cv2

    quiet_opencv()
    try:
        data = np.fromfile(path, np.uint8)  # not cv2.imread: that cannot open every name on every platform
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except cv2.error as error:
        raise UserError(f"{path}: not a readable image ({error.err})") from None
    if image is None:
        raise UserError(f"{path}: not a readable image (empty, truncated, or another kind of file)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def quiet_opencv() -> None:
    """Stop OpenCV's own warnings on stderr: what is wrong with an image or a camera is one line of ours."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


# --- videos


def _video(name: str, *, live: bool) -> Opened:
    import av

    shown, remote = _without_password(name), "://" in name
    try:
        options = {"rtsp_transport": "tcp"} if name.startswith("rtsp") else {}
        timeout = (OPEN_SECONDS, READ_SECONDS) if remote else None
        container = av.open(name, options=options, timeout=timeout, metadata_errors="replace")
    except av.error.FFmpegError as error:
        kind = "cannot be opened" if remote else "not a readable video: truncated, or another kind of file"
        raise UserError(f"{shown}: {kind} ({_reason(error)})") from None
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise UserError(f"{shown}: a text file, not a video")
    if not container.streams.video:
        container.close()
        raise UserError(f"{shown}: no video in it")
    stream = container.streams.video[0]
    # A stream without a decoder has no codec context, and PyAV crashes the process where one is then used.
    if stream.codec_context is None:
        container.close()
        raise UserError(f"{shown}: no decoder for its video; convert it to H.264 first")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = 2  # enough for real time; the other cores belong to the network
    rate = stream.average_rate or stream.guessed_rate
    return Opened(
        _decode(shown, container, stream, live), fps=rate, length=_promised(container, stream), live=live
    )


def _promised(container: "av.container.InputContainer", stream: "av.VideoStream") -> int | None:
    if stream.frames > 0:
        return int(stream.frames)
    if container.duration and stream.average_rate:  # Matroska: an estimate, in microseconds
        return round(container.duration * stream.average_rate / 1_000_000)
    return None


def _decode(
    name: str, container: "av.container.InputContainer", stream: "av.VideoStream", live: bool
) -> Generator[Frame, None, None]:
    import av

    count, ends = 0, 0.0
    cut = not live and _cut_short(container, stream)
    promised = 0.0 if live else (container.duration or 0) / 1e6
    starts = (container.start_time or 0) / 1e6
    reason = "it ends early: the file is truncated" if cut else "no frames in it"
    try:
        with container:
            for frame in container.decode(stream):
                image: npt.NDArray[Any] = frame.to_ndarray(format="rgb24")
                if frame.rotation:
                    image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
                count += 1
                ends = (frame.time or 0.0) - starts
                yield image
    except av.error.FFmpegError as error:
        raise _broken(name, count, reason if cut else _reason(error)) from None
    if cut or count == 0:
        raise _broken(name, count, reason)
    # Only a hint: FFmpeg reads a cut Matroska file without complaint, but sound may also outlast the picture.
    if 0 < ends < 0.9 * promised - 0.5:
        log.warning(
            "%s: its picture ends at %.1f s of %.1f s: the file may be truncated", name, ends, promised
        )


def _reason(error: "av.error.FFmpegError") -> str:
    """FFmpeg's words; a timeout, which it calls "Immediate exit requested", in ours."""
    import av

    return "no data came in time" if isinstance(error, av.error.ExitError) else str(error.strerror)


def _cut_short(container: "av.container.InputContainer", stream: "av.VideoStream") -> bool:
    """Whether the index names bytes beyond the file's end, which FFmpeg takes for a regular end."""
    entries: Any = getattr(stream, "index_entries", ())
    size = container.size  # not above zero: a server that does not tell it
    return size > 0 and any(entry.pos + entry.size > size for entry in entries)


def _broken(name: str, count: int, reason: str) -> UserError:
    if count == 0:
        return UserError(f"{name}: not one frame could be decoded ({reason})")
    return StreamError(f"{name}: broken after {count} frames ({reason}); what came before is kept")


def _without_password(name: str) -> str:
    return re.sub(r"://[^/@]*@", "://", name)


# --- cameras


def _camera(index: int) -> Opened:
    import cv2

    device = Path(f"/dev/video{index}")
    if sys.platform == "linux" and not device.exists():
        raise UserError(f"camera {index}: no such camera (there is no {device})")
    quiet_opencv()
    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        raise UserError(f"camera {index}: cannot be opened; is it connected, free and readable for you?")
    rate = camera.get(cv2.CAP_PROP_FPS)
    fps = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else None

    def read() -> Generator[Frame, None, None]:
        count = 0
        try:
            while True:
                ok, image = camera.read()
                if not ok:
                    raise _broken(f"camera {index}", count, "it gives no more frames")
                count += 1
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[misc]
        finally:
            camera.release()

    return Opened(read(), fps=fps, live=True)
