"""Frames of image files.

An image is read as RGB of 8 bits: 16 bits are scaled to 8, transparency is ignored (the colour under it
counts), grey becomes three equal channels, and its EXIF orientation turns it upright.
"""

import re
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.image_size import image_size
from jntrt.runtime.video.stream import MAX_PIXELS, Frame, Numbered, Opened, StreamError, check_size

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def images_in(folder: Path) -> list[Path]:
    """The folder's images, or those of the folder `img` in it, in natural order."""
    found = natural_order(folder.iterdir())
    if not found and (folder / "img").is_dir():  # OTB and LaSOT keep the frames one folder further down
        found = natural_order((folder / "img").iterdir())
    return found


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Images among `paths`, frame 9 before frame 10; no hidden files (macOS's `._1.jpg`), no pipes."""

    def key(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"([0-9]+)", str(path))  # every second part is a number
        return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]

    images = (p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." and p.is_file())
    return sorted(images, key=key)


def image_list(name: str, paths: list[Path], strict: bool, max_pixels: int) -> Opened:
    """The images at `paths` as frames. One that cannot be read is missing; the first one may not be."""
    if not paths:
        raise UserError(f"{name}: no images there ({', '.join(sorted(IMAGE_SUFFIXES))})")

    def read() -> Generator[Numbered, None, None]:
        for index, path in enumerate(paths):
            try:
                image = read_image(path, max_pixels)
            except UserError as error:
                if index == 0:
                    raise
                if strict:
                    raise StreamError(f"{error}; the {index} frames before it are kept") from None
                opened.damage.missing.append(range(index, index + 1))
                if not opened.damage.remarks:
                    opened.damage.remarks.append(f"the first of them: {error}")
            else:
                yield index, image

    opened = Opened(read(), length=len(paths))
    return opened


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Frame:
    """The image as RGB, H×W×3 uint8 (see above); UserError where it cannot be read or is too large."""
    try:
        data = np.fromfile(path, np.uint8)  # not cv2.imread: that cannot open every name on every platform
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return decode_image(data, str(path), max_pixels)


def decode_image(data: NDArray[np.uint8], name: str, max_pixels: int = MAX_PIXELS) -> Frame:
    """The image in the bytes `data` as RGB, H×W×3 uint8; UserError, which begins with `name`, as above."""
    import cv2

    quiet_opencv()
    try:
        size = image_size(data.tobytes())
        if size is not None:
            check_size(name, *size, max_pixels)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UserError(f"{name}: not a readable image ({error.err})") from None
    if size is None or image is None:
        raise UserError(f"{name}: not a readable image (empty, truncated, or another kind of file)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def quiet_opencv() -> None:
    """Stop OpenCV's own warnings on stderr: what is wrong with an image or a camera is one line of ours."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
