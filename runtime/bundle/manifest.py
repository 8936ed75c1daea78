"""The manifest, read as something a stranger wrote.

Every key that the runtime needs is checked for its type and range, file names cannot leave the folder,
unknown keys are left alone, and a newer format is refused by its number. A complaint is one line that names
the key.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from jntrt.runtime.errors import UserError

FORMAT = 1
MANIFEST = "bundle.json"
GRAPHS = ("template", "track")
MAX_MANIFEST = 4 << 20  # bytes
MAX_FILE = 1 << 31  # bytes: an ONNX file without external data stays below
MAX_BATCH = 64
MAX_CROP = 4096  # pixels
MAX_CROPS = 64 << 20  # pixels of one kind of crop, over a batch
MAX_PRECISIONS = 32
MAX_TENSORS = 256  # inputs or outputs of the graphs
MAX_WHOLE = 1 << 53  # whole numbers of any key
MAX_DEPTH = 20  # objects and lists in one another

DTYPES = ("uint8", "int8", "int32", "int64", "bool", "float16", "float32", "float64", "bfloat16")

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PRECISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_file_name(name: object, where: str) -> str:
    """`name` when it is a plain file name that cannot leave a folder, else UserError."""
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or name == MANIFEST:
        raise UserError(f"{where}: {name!r} is not a file name that a bundle may use")
    return name


class Reader:
    """Reads checked values from one object of the manifest; `where` begins every complaint."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise UserError(f"{where}: not an object: export the checkpoint again")
        self.values: dict[str, Any] = values
        self.where = where

    def section(self, key: str) -> "Reader":
        return Reader(self._value(key), f"{self.where}: {key}")

    def text(self, key: str) -> str:
        value = self._value(key)
        if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
            raise UserError(f"{self.where}: {key} must be a short text, not {short(value)}")
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UserError(f"{self.where}: {key} must be a whole number {low} … {high}, not {short(value)}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self._value(key)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not low <= value <= high:
            raise UserError(f"{self.where}: {key} must be a number {low} … {high}, not {short(value)}")
        return float(value)

    def _value(self, key: str) -> Any:
        if key not in self.values:
            raise UserError(f"{self.where}: {key!r} is missing: export the checkpoint again")
        return self.values[key]


def short(value: object) -> str:
    """A value of the manifest for a complaint, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def check_precisions(reader: Reader) -> None:
    """The precisions and their graphs' files."""
    if not reader.values:
        raise UserError(f"{reader.where}: no precision in it: export the checkpoint again")
    if len(reader.values) > MAX_PRECISIONS:
        raise UserError(f"{reader.where}: more than {MAX_PRECISIONS} of them: export the checkpoint again")
    for name in reader.values:
        if not _PRECISION.fullmatch(name):
            raise UserError(f"{reader.where}: {short(name)} is no name of a precision")
        for graph in GRAPHS:
            entry = reader.section(name).section(graph)
            check_file_entry(entry)
            if not entry.text("file").endswith(".onnx"):  # an engine may tell formats by their endings
                raise UserError(f"{entry.where}: {entry.text('file')} is no .onnx file")


def check_tensors(manifest: dict[str, Any], kind: str, where: str) -> None:
    """The `inputs` or `outputs`: graph and name, and type and shape where they are said."""
    entries = manifest.get(kind, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{where}: {kind!r} is not a list of tensors: export the checkpoint again")
    if len(entries) > MAX_TENSORS:
        raise UserError(f"{where}: more than {MAX_TENSORS} {kind}: export the checkpoint again")
    for entry in entries:
        reader = Reader(entry, f"{where}: {kind}")
        if reader.text("graph") not in GRAPHS:
            raise UserError(f"{reader.where}: it belongs to an unknown graph {short(entry['graph'])}")
        reader.text("name")
        if "dtype" in entry and reader.text("dtype") not in DTYPES:
            raise UserError(f"{reader.where}: dtype {short(entry['dtype'])} is none of {', '.join(DTYPES)}")
        shape = entry.get("shape", [])
        if (
            not isinstance(shape, list)
            or len(shape) > 8
            or not all(type(side) is int and 0 < side < 1 << 31 for side in shape)
        ):
            raise UserError(f"{reader.where}: {short(entry['name'])} has no shape of up to 8 whole numbers")


def check_file_entry(reader: Reader) -> None:
    """A file of the bundle: a plain name, its size in bytes, its sha256."""
    check_file_name(reader.text("file"), reader.where)
    reader.whole("bytes", 1, MAX_FILE)
    if not _SHA256.fullmatch(reader.text("sha256")):
        raise UserError(f"{reader.where}: sha256 must be 64 lower-case hexadecimal digits")


def read_manifest(folder: Path, shown: str) -> dict[str, Any]:
    """bundle.json of `folder` as a dict of the known format; `shown` is the path as the user wrote it."""
    file = folder / MANIFEST
    if folder.is_file():
        raise UserError(f"{shown} is a file: a bundle is a folder, made by export-jn CKPT -o DIR")
    if not file.is_file():
        reason = "no such folder" if not folder.exists() else f"no {MANIFEST} in it"
        raise UserError(f"{shown} is not a bundle ({reason}): make one with export-jn CKPT -o {shown}")
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise UserError(f"{shown}: {MANIFEST} cannot be read: {os.strerror(error.errno or 0)}") from error
    if len(content) > MAX_MANIFEST:
        raise UserError(f"{shown}: {MANIFEST} is over {MAX_MANIFEST >> 20} MiB: this is no manifest")
    try:
        manifest = json.loads(content, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        _check_depth(manifest, MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown}: {MANIFEST} is not sound JSON: export the checkpoint again") from error
    if not isinstance(manifest, dict):
        raise UserError(f"{shown}: {MANIFEST} is not a JSON object: export the checkpoint again")
    version = manifest.get("format")
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
        raise UserError(
            f"{shown}: bundle format {version} is newer than this jntrt knows ({FORMAT}): update jntrt"
        )
    if version != FORMAT:
        raise UserError(f"{shown}: {MANIFEST} has no known format number: export the checkpoint again")
    return manifest


def _whole(text: str) -> int:
    value = int(text)  # a ValueError where there are thousands of digits
    if abs(value) > MAX_WHOLE:
        raise ValueError("a whole number that is too large")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def _check_depth(value: object, left: int) -> None:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if inner and not left:
        raise ValueError("too deep")
    for part in inner:
        _check_depth(part, left - 1)
