"""The size that an image file claims, from its first bytes: known before anything is decoded or allocated."""

import re
import struct

_MARKERS = 10_000  # of a JPEG, before its size: a sound file has dozens


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, BMP, WebP, TIFF or PNM in `data`; None for anything else."""
    readers = {
        b"\x89PNG": _png,
        b"\xff\xd8": _jpeg,
        b"BM": _bmp,
        b"RIFF": _webp,
        b"II": _tiff,
        b"MM": _tiff,
        b"P": _pnm,
    }
    for start, read in readers.items():
        if data.startswith(start):
            try:
                return read(data)
            except (struct.error, IndexError, KeyError, ValueError):  # it ends within its header
                return None
    return None


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    """The first frame header (SOF0 … SOF15, without DHT, JPG and DAC)."""
    at = 2
    for _ in range(_MARKERS):
        if data[at] != 0xFF:  # decoders look for the next marker as well
            at = data.index(b"\xff", at)
        marker = data[at + 1]
        if marker in (0x00, 0xFF):  # filling
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker == 0x01 or 0xD0 <= marker <= 0xD9:  # markers without a length
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise ValueError


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2's header
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # a negative height: rows from the top


def _webp(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            bits = struct.unpack_from("<I", data, 21)[0]
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise ValueError


def _tiff(data: bytes) -> tuple[int, int]:
    """Tags 256 and 257 of the first directory."""
    order = "<" if data.startswith(b"II") else ">"
    if struct.unpack_from(order + "H", data, 2)[0] != 42:  # BigTIFF (43) holds images above 4 GB
        raise ValueError
    at = struct.unpack_from(order + "I", data, 4)[0]
    tags = {}
    for entry in range(struct.unpack_from(order + "H", data, at)[0]):
        tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * entry)
        if tag in (256, 257):
            form = "H" if kind == 3 else "I"
            tags[tag] = struct.unpack_from(order + form, data, at + 10 + 12 * entry)[0]
    return tags[256], tags[257]


def _pnm(data: bytes) -> tuple[int, int]:
    found = re.match(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s", data[:4096])
    if found is None:
        raise ValueError
    return int(found[1]), int(found[2])
