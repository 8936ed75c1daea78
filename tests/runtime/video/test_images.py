"""Image files of every kind: one defined frame each, or one line."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.image_size import image_size
from jntrt.runtime.video.images import read_image
from jntrt.runtime.video.sources import frames

RANDOM = np.random.default_rng(5).integers(0, 255, (48, 64, 3), np.uint8)  # BGR, as OpenCV writes it


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm", ".pgm"])
@pytest.mark.parametrize("size", [(48, 64), (1, 3), (300, 17)])
def test_the_size_before_decoding(suffix: str, size: tuple[int, int]) -> None:
    height, width = size
    image = np.zeros((height, width) if suffix == ".pgm" else (height, width, 3), np.uint8)
    ok, data = cv2.imencode(suffix, image)
    assert ok
    assert image_size(data.tobytes()) == (width, height)
    for length in (0, 2, 5):  # a header that ends early is no image
        assert image_size(data.tobytes()[:length]) is None


def test_a_lossy_and_a_lossless_webp_and_one_with_alpha() -> None:
    for channels, quality in [(3, 80), (3, 101), (4, 80)]:
        image = np.zeros((40, 50, channels), np.uint8)
        _, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
        assert image_size(data.tobytes()) == (50, 40)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_become_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), RANDOM.astype(np.uint16) << 8)
    # libtiff divides by 257, libpng takes the upper byte
    assert np.abs(read_image(path).astype(int) - RANDOM[:, :, ::-1]).max() <= 1


def test_transparency_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    cv2.imwrite(str(path), np.dstack([RANDOM, np.zeros((48, 64), np.uint8)]))
    assert np.array_equal(read_image(path), RANDOM[:, :, ::-1])


def test_what_is_no_frame_in_a_folder(tmp_path: Path) -> None:
    names = ["1²2.png", "1²10.png", "２.png"]  # digits to Python, no numbers to int
    for name in names:
        cv2.imwrite(str(tmp_path / name), RANDOM)
    (tmp_path / "._1²2.png").write_bytes(b"a macOS resource fork")
    os.mkfifo(tmp_path / "3.png")
    (tmp_path / "4.png").mkdir()
    with frames(tmp_path) as source:
        assert len(list(source)) == source.length == 3
    with pytest.raises(UserError, match="no regular file"):
        frames(tmp_path / "3.png")


def test_a_small_file_that_claims_a_large_frame(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(huge_png())
    with pytest.raises(UserError, match=r"30000×30000 is above 67108864 pixels; say --max-pixels 900000000"):
        next(frames(path))
    cv2.imwrite(str(tmp_path / "fine.png"), RANDOM)
    with pytest.raises(UserError, match="64×48 is above 3071"):
        next(frames(tmp_path / "fine.png", max_pixels=3071))
    assert next(frames(tmp_path / "fine.png", max_pixels=3072)).shape == (48, 64, 3)


def test_sides_above_65535(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((1, 65536), np.uint8))
    with pytest.raises(UserError, match="sides above 65535"):
        next(frames(tmp_path / "long.png"))
