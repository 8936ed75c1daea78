"""parity.npz: the drawn crops and stored outputs that travel with a bundle, read as a stranger's file.

An archive of arrays says itself how large they are. What is believed instead is the manifest: an array has
the type and shape that its crop or graph has, and everything together stays below `MAX_BYTES`.
"""

import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.runtime.bundle.bundle import Bundle

KEPT = "kept/"  # before the name of a set of kept tokens: what fp32 kept
MAX_SAMPLES = 1024
MAX_ARRAYS = 256
MAX_BYTES = 256 << 20
MAX_HEADER = 1024  # characters of an array's own description

Shape = tuple[int, ...]


def read_samples(bundle: "Bundle") -> dict[str, NDArray[Any]]:
    """The arrays of parity.npz, first axis: sample. Raises UserError for a file that is not one."""
    file = bundle.parity()
    expected = _expected(bundle)
    try:
        stored = _read(file, expected)
    except UserError:
        raise
    except Exception as error:
        # What zipfile, zlib and NumPy raise on bytes that mean harm is no list that ends.
        told = " ".join(str(error).split())[:80]
        raise UserError(
            f"{file} cannot be read ({type(error).__name__}: {told}): export the checkpoint again"
        ) from error
    count = len(stored["search"])
    if not 0 < count <= MAX_SAMPLES or count % bundle.batch:
        raise UserError(f"{file} has no whole batch of samples: export the checkpoint again")
    uneven = [name for name, array in stored.items() if len(array) != count]
    if uneven:
        raise UserError(f"{file}: {uneven[0]} has not {count} samples: export the checkpoint again")
    return stored


def _expected(bundle: "Bundle") -> dict[str, tuple[str, Shape]]:
    """Type, and shape of one sample, of the arrays that have to be there or that a graph takes."""
    expected: dict[str, tuple[str, Shape]] = {
        entry["name"]: (entry["dtype"], tuple(entry["shape"][1:]))
        for entry in bundle.manifest.get("inputs", [])
        if "dtype" in entry and "shape" in entry
    }
    template, search = bundle.template.size, bundle.search.size
    return expected | {
        "template": ("uint8", (template, template, 3)),
        "search": ("uint8", (search, search, 3)),
        "box": ("float32", (4,)),
        "score": ("float32", ()),
    }


def _read(file: Path, expected: dict[str, tuple[str, Shape]]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ARRAYS or sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise UserError(f"{file} holds more than samples need: export the checkpoint again")
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays or not name.isprintable():
                raise UserError(f"{file} holds {name!r:.80} twice or oddly: export the checkpoint again")
            with archive.open(entry) as stream:
                arrays[name] = _array(stream, entry.file_size)
    for name in ("template", "search", "box", "score"):
        if name not in arrays:
            raise UserError(f"{file} has no {name}: export the checkpoint again")
    for name, array in arrays.items():
        kind, shape = expected.get(name, (str(array.dtype), array.shape[1:]))
        if array.ndim == 0 or str(array.dtype) != kind or array.shape[1:] != shape:
            raise UserError(
                f"{file}: {name!r:.80} is {array.dtype} {array.shape}, the graphs need {kind} {shape} for"
                " each sample: export the checkpoint again"
            )
    return arrays


def _array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """One array of `size` bytes with its header; nothing is allocated before both agree."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of NumPy's format")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = reader(stream, max_header_size=MAX_HEADER)
    if dtype.kind not in "uifb" or dtype.names or dtype.subdtype:
        raise ValueError(f"an array of {dtype}")
    count = 1
    for side in shape:
        if not 0 <= side <= MAX_BYTES:
            raise ValueError("an array with an odd shape")
        count *= side
    if count * dtype.itemsize != size - stream.tell():
        raise ValueError("an array that is not as long as it says")
    content = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return content.reshape(shape, order="F" if columns_first else "C")
