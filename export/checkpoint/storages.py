"""The bytes behind a checkpoint's tensors: torch's zip archive, its older stream, and safetensors.

Sizes are checked against the file before anything is read or allocated, and the weights together against
`MAX_BYTES`.
"""

from __future__ import annotations

import math
import mmap
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from jntrt.export.checkpoint.pickle_reader import StorageRef, TensorRef

MAX_BYTES = 1_600_000_000
"""All weights together, as read, floating types in float32; a ViT-L has 1.2·10⁹."""

MAX_GROWTH = 8
"""Bytes as read for each of the file: strides of 0 make large tensors of small storages, and tensors may
share a storage; 8-bit floats, the smallest type, are not read."""

MAX_NAME = 512  # characters of a weight's name
MAX_HEADER_BYTES = 16 << 20

Array = npt.NDArray[Any]

# bfloat16 is not a NumPy type: it is read as the upper half of a float32.
NUMPY_TYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "u1",
    "complex64": "c8", "complex128": "c16",
}  # fmt: skip
SAFETENSORS_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class StorageError(ValueError):
    """The bytes are not what the file says they are; the message says how."""


class Storages(Protocol):
    """Where tensors' bytes come from."""

    order: str
    """"<" or ">", the byte order of all storages."""

    def load(self, storage: StorageRef) -> bytes:
        """The bytes of `storage`; exactly as many as it says, else `StorageError`."""
        ...


class ZipStorages:
    """The records of an archive of `torch.save`. `pickle` is the bytes of its `data.pkl`."""

    def __init__(self, file: IO[bytes], length: int, pickle_limit: int) -> None:
        try:
            self.archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OverflowError) as error:
            raise StorageError(f"the zip archive is damaged or cut short ({error})") from None
        entries = self.archive.infolist()
        if len(self.archive.NameToInfo) != len(entries):
            # Which one counts is each reader's choice, and torch's is another than ours.
            raise StorageError("the zip archive has two records of one name")
        if any(entry.filename.rpartition("/")[2] == "constants.pkl" for entry in entries):
            raise StorageError("it is a TorchScript archive; give the training checkpoint or its state dict")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise StorageError("the zip archive is compressed, which torch.save never does")
        if sum(entry.file_size for entry in entries) > length:
            raise StorageError("the zip archive says it holds more than the file has")
        pickles = [
            e for e in entries if e.filename.rpartition("/")[2] == "data.pkl" and e.filename.count("/") < 2
        ]
        if len(pickles) != 1:
            raise StorageError("the zip archive has no data.pkl, so torch.save did not write it")
        if pickles[0].file_size > pickle_limit:
            raise StorageError(f"its data.pkl is longer than {pickle_limit >> 20} MB")
        self.prefix = pickles[0].filename.removesuffix("data.pkl")
        self.pickle = self._read(pickles[0])
        self.order = "<"
        if f"{self.prefix}byteorder" in self.archive.NameToInfo:
            order = self._read(self.archive.NameToInfo[f"{self.prefix}byteorder"])
            self.order = ">" if order == b"big" else "<"

    def _read(self, entry: zipfile.ZipInfo) -> bytes:
        try:
            return self.archive.read(entry)
        except (
            zipfile.BadZipFile,
            ValueError,
            NotImplementedError,
            RuntimeError,
            EOFError,
            zlib.error,
        ) as error:
            raise StorageError(f"its record {entry.filename!r:.80} is damaged ({str(error)[:80]})") from None

    def load(self, storage: StorageRef) -> bytes:
        entry = self.archive.NameToInfo.get(f"{self.prefix}data/{storage.key}")
        if entry is None:
            raise StorageError(f"storage {storage.key!r:.40} is missing")
        _same_size(storage, entry.file_size)
        return self._read(entry)


class LegacyStorages:
    """The storages after the older format's pickles: from `data`'s position on, in the order of `keys`."""

    def __init__(
        self, data: mmap.mmap, keys: list[str], storages: Mapping[str, StorageRef], order: str
    ) -> None:
        self.data, self.order = data, order
        self.spans: dict[str, tuple[int, int]] = {}
        for key in keys:
            storage = storages.get(key)
            if storage is None:
                raise StorageError(f"storage {key!r:.40} belongs to no tensor")
            count = int.from_bytes(data.read(8), "little" if order == "<" else "big")
            size = count * _item_size(storage.dtype)
            if data.tell() + size > len(data):
                raise StorageError(f"storage {key!r:.40} is longer than the file, which may be cut short")
            self.spans[key] = (data.tell(), size)
            data.seek(size, 1)

    def load(self, storage: StorageRef) -> bytes:
        if storage.key not in self.spans:
            raise StorageError(f"storage {storage.key!r:.40} is missing")
        start, size = self.spans[storage.key]
        item = _item_size(storage.dtype)
        if storage.view:
            offset = storage.offset * item
            if offset + storage.count * item > size:
                raise StorageError(f"a view of storage {storage.key!r:.40} lies outside of it")
            return self.data[start + offset : start + offset + storage.count * item]
        _same_size(storage, size)
        return self.data[start : start + size]


def gather(references: Mapping[str, TensorRef], storages: Storages, length: int) -> dict[str, Array]:
    """The tensors of `references` as contiguous arrays (bfloat16 as float32), in the given order.

    length: of the file, in bytes. Raises `StorageError` for a tensor outside its storage, a type without a
    NumPy counterpart, or more bytes together than `MAX_BYTES` or than a file of this length can mean.
    """
    check_sizes({name: (tensor.dtype, tensor.shape) for name, tensor in references.items()}, length)
    arrays: dict[str, Array] = {}
    loaded: tuple[StorageRef | None, bytes] = (None, b"")
    # Grouped by storage: a file may keep all its tensors in one.
    for name in sorted(references, key=lambda name: references[name].storage.key):
        reference = references[name]
        if loaded[0] != reference.storage:
            loaded = (reference.storage, storages.load(reference.storage))
        arrays[name] = _view(name, reference, loaded[1], storages.order)
    return {name: arrays[name] for name in references}


def read_safetensors(path: Path, length: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the metadata of a safetensors file of `length` bytes. Raises `StorageError`.

    Its own library reads it, behind the limits of the other formats. bfloat16 needs torch.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if not 2 <= header <= min(MAX_HEADER_BYTES, length - 8):
        raise StorageError("the safetensors header is longer than the file or than 16 MB")
    try:
        with safe_open(path, "numpy") as file:
            kinds, shapes = {}, {}
            for name in file.keys():  # noqa: SIM118 (the file is no dictionary)
                part = file.get_slice(name)
                kinds[name], shapes[name] = part.get_dtype(), tuple(part.get_shape())
            for name, kind in kinds.items():
                if kind not in SAFETENSORS_TYPES:
                    raise StorageError(f"tensor {name!r:.80} is {kind!r:.40}; convert the weights to float32")
            check_sizes({name: (SAFETENSORS_TYPES[kinds[name]], shapes[name]) for name in kinds}, length)
            metadata = dict(file.metadata() or {})
            if "BF16" not in kinds.values():
                return {name: np.asarray(file.get_tensor(name)) for name in kinds}, metadata
        with safe_open(path, "pt") as file:
            tensors = ((name, file.get_tensor(name)) for name in kinds)
            return {n: (t.float() if kinds[n] == "BF16" else t).numpy() for n, t in tensors}, metadata
    except (SafetensorError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, StorageError):
            raise
        told = " ".join(str(error).split())
        raise StorageError(f"the safetensors file is damaged or cut short ({told:.120})") from None


def check_sizes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], length: int) -> None:
    """Raises `StorageError` where tensors (type and shape by name) are more than a file of `length` may hold.

    Asked before any of them is read.
    """
    total = 0
    for name, (dtype, shape) in tensors.items():
        if len(name) > MAX_NAME:
            raise StorageError(f"the name {name[:40]!r}… is longer than {MAX_NAME} characters")
        empty = math.prod(shape) == 0  # then any other side costs nothing
        if len(shape) > 16 or (empty and math.prod(max(size, 1) for size in shape) > MAX_BYTES):
            raise StorageError(f"tensor {name!r:.80} has an odd shape")
        # Floating types become float32.
        total += math.prod(shape) * (4 if "float" in dtype else _item_size(dtype))
    limit = min(MAX_BYTES, MAX_GROWTH * length)
    if total > limit:
        raise StorageError(f"its tensors have {total:.1e} bytes, more than the {limit:.1e} of such a file")


def _view(name: str, tensor: TensorRef, memory: bytes, order: str) -> Array:
    kind, item = NUMPY_TYPES.get(tensor.dtype), _item_size(tensor.dtype)
    if kind is None or kind[0] == "c":
        raise StorageError(f"tensor {name!r:.80} is {tensor.dtype!r:.40}; convert the weights to float32")
    base = np.frombuffer(memory, f"{order}{kind}", len(memory) // item)
    if math.prod(tensor.shape) == 0:
        view: Array = np.zeros(tensor.shape, kind)
    else:
        last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
        if tensor.offset + last >= base.size:
            raise StorageError(f"tensor {name!r:.80} reaches beyond its storage")
        # The stride of an axis with one element is never taken, so nothing above has looked at it.
        sides = zip(tensor.shape, tensor.strides, strict=True)
        steps = tuple(step * item if size > 1 else 0 for size, step in sides)
        view = np.lib.stride_tricks.as_strided(base[tensor.offset :], tensor.shape, steps)
    if tensor.dtype == "bfloat16":
        return np.asarray(view.astype(np.uint32, order="C") << 16).view(np.float32)
    return view.astype(bool if tensor.dtype == "bool" else kind, order="C")


def _item_size(dtype: str) -> int:
    return np.dtype(NUMPY_TYPES.get(dtype, "u1")).itemsize


def _same_size(storage: StorageRef, size: int) -> None:
    wanted = storage.count * _item_size(storage.dtype)
    if wanted != size:
        raise StorageError(f"storage {storage.key!r:.80} says {wanted} bytes and has {size}")
