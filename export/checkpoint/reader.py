"""Reads a checkpoint's weights; executes nothing of it and believes none of its sizes.

Formats: torch's zip archive and its older plain stream (.pth, .pt, .pth.tar, .bin), and .safetensors. The
state dict lies at the top or under `net`, `model` or `state_dict`; `module.` prefixes are taken off. torch is
not needed.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jntrt.export.checkpoint.pickle_reader import (
    MAX_PICKLE_BYTES,
    PickleError,
    Placeholder,
    Seen,
    TensorRef,
    read_pickle,
)
from jntrt.export.checkpoint.storages import (
    LegacyStorages,
    StorageError,
    Storages,
    ZipStorages,
    gather,
    read_safetensors,
)
from jntrt.runtime.errors import UserError

STATE_KEYS = ("net", "model", "state_dict")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
FORMATS = "a .pth, .pth.tar or .pt file of torch.save, or a .safetensors file"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    `weights`: state-dict name → array, every floating type as float32, integers and booleans as they are.
    `metadata`: the other entries of the file, inert (`Placeholder` where the file wanted an object).
    `skipped`: entries of the state dict that are no dense tensors.
    `names`: what the pickle named of other code than torch's; none of it was looked up.
    """

    path: Path
    format: str
    weights: dict[str, npt.NDArray[Any]]
    metadata: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def project_path(self) -> str | None:
        """`settings.project_path` of the official trainer, None where the file has none."""
        settings = self.metadata.get("settings")
        value = settings.get("project_path") if isinstance(settings, Placeholder | dict) else None
        return value if isinstance(value, str) else None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads the weights and inert metadata of the checkpoint at `path`.

    Raises `UserError`, in one line, for a file that is missing, empty, damaged, no checkpoint, larger inside
    than outside, or that holds weights which are complex or not finite.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; give {FORMATS}")
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty; give {FORMATS}")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, file, data)
    except (PickleError, StorageError) as error:
        raise UserError(f"{path}: not a sound checkpoint: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise UserError(f"{path}: does not fit into this machine's memory") from None


def _read(path: Path, file: IO[bytes], data: mmap.mmap) -> Checkpoint:
    seen, head = Seen(), data[:9]
    storages: Storages
    if head[8:] == b"{":
        weights, metadata = read_safetensors(path, len(data))
        return _checked(Checkpoint(path, "safetensors", weights, metadata))
    if head[:2] == b"PK":
        form, storages = "zip", ZipStorages(file, len(data), MAX_PICKLE_BYTES)
        tree = read_pickle(BytesIO(storages.pickle), seen)
    elif head[:1] == b"\x80":
        form = "legacy"
        tree, storages = _read_legacy(path, data, seen)
    else:
        graph = "an ONNX graph, " if path.suffix.lower() == ".onnx" else ""
        raise UserError(f"{path}: {graph}not a checkpoint; give {FORMATS}")
    state, metadata = _state_dict(path, tree)
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, TensorRef)}
    skipped = tuple(repr(k)[:80] for k in state if k not in tensors)
    names = tuple(sorted(n for n in seen.names if not n.startswith(("torch.", "collections."))))
    return _checked(Checkpoint(path, form, gather(tensors, storages, len(data)), metadata, skipped, names))


def _read_legacy(path: Path, data: mmap.mmap, seen: Seen) -> tuple[Any, Storages]:
    """Five pickles (magic number, protocol, system, the saved value, keys), then the storages."""
    stream = BytesIO(data[: MAX_PICKLE_BYTES + 1])  # one value in it may say that it is as long as the file
    if read_pickle(stream) != LEGACY_MAGIC or read_pickle(stream) != 1001:
        raise UserError(f"{path}: a pickle that torch.save did not write; give {FORMATS}")
    system = read_pickle(stream)
    tree = read_pickle(stream, seen)
    keys = read_pickle(stream)
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise StorageError("the list of storages is missing")
    data.seek(stream.tell())
    little = not isinstance(system, dict) or system.get("little_endian", True)
    return tree, LegacyStorages(data, keys, seen.storages, "<" if little else ">")


def _state_dict(path: Path, tree: Any) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The state dict in what was saved, and the entries beside it."""
    if isinstance(tree, dict):
        for key in STATE_KEYS:
            inner = tree.get(key)
            if isinstance(inner, dict) and any(isinstance(v, TensorRef) for v in inner.values()):
                return inner, {str(k): v for k, v in tree.items() if k != key}
        if any(isinstance(v, TensorRef) for v in tree.values()):
            state = {k: v for k, v in tree.items() if isinstance(v, TensorRef)}
            return state, {str(k): v for k, v in tree.items() if k not in state}
    places = {"": tree}
    if isinstance(tree, dict):
        places = {f"[{key!r}]": tree.get(key) for key in STATE_KEYS}
    for place, held in places.items():
        if isinstance(held, Placeholder):
            raise UserError(f"{path}: {_whole_module(held.name, place)}")
    raise UserError(f"{path}: no weights at the top or under {', '.join(STATE_KEYS)}; is it a checkpoint?")


def _whole_module(name: str, place: str) -> str:
    """What a pickled object of the class `name` at the file's `place` is, and the way to its weights."""
    yolo = name.startswith(("ultralytics.", "models.yolo."))
    what = "a YOLO model, a detector and no tracker, pickled whole" if yolo else "a whole pickled module"
    return (
        f"{what} ({name:.60}), which only its own code opens; there, "
        f"torch.save(torch.load(FILE, weights_only=False){place}.state_dict(), 'w.pth') gets the weights"
    )


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint without `module.` prefixes, in float32, all of it finite."""
    weights: dict[str, npt.NDArray[Any]] = {}
    for stored, array in checkpoint.weights.items():
        name = stored
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if name in weights:
            raise StorageError(f"weight {name!r:.80} is there twice, with and without module.")
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype(np.float32, copy=False)
            bad = ~np.isfinite(array)
            if bad.any():
                index = ", ".join(map(str, np.unravel_index(bad.argmax(), bad.shape)))
                raise StorageError(f"weight {name!r:.80} is not finite at [{index}] ({bad.sum()} values)")
        weights[name] = array
    if not weights:
        raise StorageError("it has no weights")
    return replace(checkpoint, weights=weights)
