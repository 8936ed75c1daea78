"""Frames from anywhere: one iterator of RGB frames for a video file, images, a camera or a stream."""

import re
from collections.abc import Callable, Sequence
from glob import glob
from pathlib import Path

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.cameras import camera
from jntrt.runtime.video.images import IMAGE_SUFFIXES, image_list, images_in, natural_order
from jntrt.runtime.video.selection import Selection
from jntrt.runtime.video.stream import MAX_PIXELS, Frames, Opened
from jntrt.runtime.video.videos import video, without_password

_ALL = Selection()
_LIVE_SCHEMES = {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "mms"}


def frames(
    source: str | Path | int | Sequence[Path],
    *,
    ahead: int = 4,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    selection: Selection = _ALL,
) -> Frames:
    """Open `source` and return its frames, decoded up to `ahead` frames early in a thread (0: no thread).

    source: a video file, an image, a folder of images (GOT-10k sequences; OTB's `img/` inside one), a glob in
        quotes, a camera's number, a stream's URL, or `-` for a video on stdin (one that needs no jumps: y4m,
        MPEG-TS, Matroska). A sequence of images' paths is one source. A name that exists is a file or a
        folder, whatever it looks like.
    strict: the first frame that is missing or damaged ends the iteration with StreamError. Else it goes on,
        `Frames.number` skips what is missing, and `Frames.damage` tells.
    selection: which of the frames, and at what size.
    max_pixels: of one frame; a source that claims more is refused before anything is decoded.
    A camera and a live stream keep only the newest frame: a tracker slower than they are sees fewer frames,
    not old ones. A file that is read over http is tracked whole.
    Raises UserError, one line per cause, where the source cannot be opened.
    """
    if not isinstance(source, str | Path | int):
        name = f"{source[0]} … {source[-1]}"
        return Frames(name, selection.of(image_list(name, list(source), strict, max_pixels)), ahead)
    name = "stdin" if source == "/dev/stdin" else without_password(str(source))
    return Frames(name, selection.of(_opener(source, strict, max_pixels)()), ahead)


def check_source(source: str) -> None:
    """UserError where `source` is nothing that `frames` could open; nothing is opened."""
    _opener(source, strict=False, max_pixels=MAX_PIXELS)


def are_images(source: str) -> bool:
    """Whether `source` names image files: a folder, an image, or a glob."""
    path = Path(source)
    if path.is_file():
        return path.suffix.lower() in IMAGE_SUFFIXES
    return path.is_dir() or (not path.exists() and "://" not in source and _is_glob(source))


def is_live(source: str) -> bool:
    """Whether `source` is the address of a stream that comes at its own pace, by its scheme."""
    return "://" in source and source.split("://")[0].lower() in _LIVE_SCHEMES


def _opener(source: str | Path | int, strict: bool, max_pixels: int) -> Callable[[], Opened]:
    text = str(source)
    path = Path(text)
    if not text:  # Path("") would be the working folder
        raise UserError("no source: give a video, a folder of images, a camera's number or a stream's URL")
    if text in ("-", "/dev/stdin"):
        return lambda: video("-", remote=False, live=False, strict=strict, max_pixels=max_pixels)
    if are_images(text):
        if path.is_dir():
            paths = images_in(path)
        else:
            paths = [path] if path.is_file() else natural_order(map(Path, glob(text, recursive=True)))
        return lambda: image_list(text, paths, strict, max_pixels)
    if path.is_file():
        return lambda: video(text, remote=False, live=False, strict=strict, max_pixels=max_pixels)
    if path.exists():
        raise UserError(f"{text}: is no regular file (a pipe or a device); give a file")
    if isinstance(source, int) or re.fullmatch(r"[0-9]+", text):
        return lambda: camera(int(text), max_pixels)
    if "://" in text:
        live = is_live(text)
        return lambda: video(text, remote=True, live=live, strict=strict, max_pixels=max_pixels)
    raise UserError(f"{text}: no such file or folder (nor a camera number, a stream URL, a glob in quotes)")


def _is_glob(text: str) -> bool:
    return any(character in text for character in "*?[")
