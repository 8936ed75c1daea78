"""The bytes behind a checkpoint's tensors: torch's zip archive, its older stream, and safetensors.

Sizes are checked against the file before anything is read or allocated, and the weights together against
`MAX_ELEMENTS`.
"""

from __future__ import annotations

import json
import math
import mmap
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
from jntrt.export.checkpoint.pickle_reader import StorageRef, TensorRef

MAX_ELEMENTS = 1 << 30
"""All weights together, as read; a ViT-L has 3·10⁸."""

MAX_ELEMENTS_PER_BYTE = 16
"""Of the file: strides of 0 make large tensors of small storages, and tensors may share a storage."""

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
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
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
    NumPy counterpart, or more elements together than `MAX_ELEMENTS` or than a file of this length can mean.
    """
    total = sum(math.prod(reference.shape) for reference in references.values())
    limit = min(MAX_ELEMENTS, MAX_ELEMENTS_PER_BYTE * length)
    if total > limit:
        raise StorageError(f"its tensors have {total:.1e} elements, more than the {limit:.1e} of such a file")
    arrays: dict[str, Array] = {}
    loaded: tuple[StorageRef | None, bytes] = (None, b"")
    # Grouped by storage: a file may keep all its tensors in one.
    for name in sorted(references, key=lambda name: references[name].storage.key):
        reference = references[name]
        if loaded[0] != reference.storage:
            loaded = (reference.storage, storages.load(reference.storage))
        arrays[name] = _view(name, reference, loaded[1], storages.order)
    return {name: arrays[name] for name in references}


def read_safetensors(data: mmap.mmap) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the `__metadata__` of a safetensors file. Raises `StorageError`."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise StorageError("the safetensors header is longer than the file or than 16 MB")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        raise StorageError("the safetensors header is no JSON") from None
    if not isinstance(header, dict):
        raise StorageError("the safetensors header is no table")
    metadata = header.pop("__metadata__", {})
    start = 8 + length
    arrays: dict[str, Array] = {}
    used = 0
    for name, entry in header.items():
        match entry:
            case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(first), int(last)]}:
                pass
            case _:
                raise StorageError(f"the safetensors entry {name!r:.80} is odd")
        if not all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in shape) or len(shape) > 16:
            raise StorageError(f"the safetensors entry {name!r:.80} has an odd shape")
        dtype = SAFETENSORS_TYPES.get(kind, kind[:20])
        count, used = math.prod(shape), used + last - first
        if not 0 <= first <= last <= len(data) - start or used > len(data) - start:
            raise StorageError(f"tensor {name!r:.80} lies outside the file, which may be cut short")
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        storage = StorageRef(name, dtype, count)
        _same_size(storage, last - first)
        tensor = TensorRef(storage, dtype, 0, tuple(shape), strides)
        arrays[name] = _view(name, tensor, data[start + first : start + last], "<")
    return arrays, metadata if isinstance(metadata, dict) else {}


def _view(name: str, tensor: TensorRef, memory: bytes, order: str) -> Array:
    kind, item = NUMPY_TYPES.get(tensor.dtype), _item_size(tensor.dtype)
    if kind is None or kind[0] == "c":
        raise StorageError(f"tensor {name!r:.80} is {tensor.dtype!r:.40}; convert the weights to float32")
    base = np.frombuffer(memory, f"{order}{kind}", len(memory) // item)
    if math.prod(max(size, 1) for size in tensor.shape) > MAX_ELEMENTS:  # one of no elements may say that
        raise StorageError(f"tensor {name!r:.80} has an odd shape")
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
