"""Writing bundles: all or nothing, so that no reader ever meets half a bundle."""

import copy
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jntrt.runtime.bundle.bundle import PARITY, Bundle, file_sha256, is_bundle
from jntrt.runtime.bundle.manifest import GRAPHS, MANIFEST, check_file_name
from jntrt.runtime.bundle.replace import clean, locked, recover, replace_folder, work_folder
from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError

# What may go with a bundle that is replaced; anything else in its folder is the user's.
_OWN_FILE = re.compile(
    r"bundle\.json|parity\.npz|calibration\.(json|html)|(template|track)\..*onnx|\..*\.part"
)

# What may lie beside the manifest's files and goes where the bundle goes.
_COMPANIONS = ("calibration.json", "calibration.html", "LICENSE", "NOTICE")

Content = bytes | Path  # of a file to write


def write_bundle(
    directory: str | Path,
    manifest: Mapping[str, Any],
    files: Mapping[str, Content],
    *,
    overwrite: bool = True,
) -> Bundle:
    """Write a bundle at `directory` and open it.

    `files` are the contents by name, as bytes or as files to copy; the manifest's file entries need only
    `file`, size and sha256 are filled in, and parity.npz gets its entry. The folder is made beside it,
    checked there and moved: a folder that is a bundle is replaced in one step (unless `overwrite` is False),
    an empty one is used, any other is refused with UserError.
    """
    target = Path(directory).resolve()
    recover(target, MANIFEST)
    check_target(target, str(directory), overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target):
            clean(target)
            check_target(target, str(directory), overwrite)  # once more: others may have been here meanwhile
            work = work_folder(target)
            try:
                work.chmod(0o755)
                for name, content in files.items():
                    _write(work / check_file_name(name, "write_bundle"), content)
                _write_manifest(work, _complete(manifest, work, PARITY in files))
                Bundle.open(work).verify()
                if is_bundle(target):
                    replace_folder(work, target)
                else:
                    work.rename(target)  # takes the place of an empty folder
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return Bundle.open(directory)
    except OSError as error:
        text = os.strerror(error.errno or 0)
        raise UserError(f"the bundle {directory} cannot be written: {text}: choose another folder") from error


def copy_bundle(bundle: Bundle, directory: str | Path) -> Bundle:
    """Copy a bundle, its files verified, with reports and licence, to the new or empty folder `directory`."""
    files = {file.name: file for file in bundle.verify()}
    files |= {name: bundle.path / name for name in _COMPANIONS if (bundle.path / name).is_file()}
    return write_bundle(directory, bundle.manifest, files, overwrite=False)


def add_precision(
    bundle: Bundle, name: str, files: Mapping[str, Content], entry: Mapping[str, Any]
) -> Bundle:
    """Add a precision to a bundle on disk, or replace it, and open the result.

    `entry` names its two graphs (`template`, `track`: {"file": …}) and may carry more, such as the gate's
    figures; a graph that `files` does not bring is one that the bundle already has. A new file never takes
    the place of one that the manifest names: its name carries its digest; the manifest changes in one step,
    and files that nobody names any more go last.
    """
    new_entry = copy.deepcopy(dict(entry))
    with _changing(bundle):
        for stale in bundle.path.glob(".*.onnx.*.part"):  # of a writer that was killed
            stale.unlink(missing_ok=True)
        _add_precision(bundle, name, files, new_entry)
    return Bundle.open(bundle.path)


def change_manifest(bundle: Bundle, **entries: Any) -> Bundle:
    """Put entries that name no files into the manifest of a bundle on disk, in one step; open the result."""
    with _changing(bundle):
        content = json.loads((bundle.path / MANIFEST).read_bytes())
        _write_manifest(bundle.path, content | entries)
    return Bundle.open(bundle.path)


@contextmanager
def _changing(bundle: Bundle) -> Iterator[None]:
    """The bundle is locked within, and what the system refuses is told to the user."""
    try:
        with locked(bundle.path):
            yield
    except OSError as error:
        text = os.strerror(error.errno or 0)
        raise UserError(
            f"the bundle {bundle.path} cannot be changed: {text}: copy it where you may write"
        ) from error


def _add_precision(bundle: Bundle, name: str, files: Mapping[str, Content], entry: dict[str, Any]) -> None:
    content = json.loads((bundle.path / MANIFEST).read_bytes())
    for file_name, data in files.items():
        check_file_name(file_name, "add_precision")
        digest = _digest(data)
        kept = file_name
        if (bundle.path / file_name).exists() and file_sha256(bundle.path / file_name) != digest:
            stem, dot, suffix = file_name.rpartition(".")
            kept = f"{stem}.{digest[:12]}{dot}{suffix}"
        _write(bundle.path / kept, data)
        for graph in entry.values():
            if isinstance(graph, dict) and graph.get("file") == file_name:
                graph["file"] = kept
    before = _named_files(content)
    content["precisions"][name] = _with_digests(entry, bundle.path)
    _write_manifest(bundle.path, content)
    for stale in before - _named_files(content):
        (bundle.path / stale).unlink(missing_ok=True)


def check_target(target: Path, shown: str, overwrite: bool) -> None:
    """Raises UserError where no bundle may be written at `place`, which messages call `shown`."""
    if target.exists() and not target.is_dir():
        raise UserError(f"{shown} is a file: name a folder for the bundle")
    if is_bundle(target):
        if not overwrite:
            raise UserError(f"{shown} is a bundle already: name another folder")
        foreign = sorted(file.name for file in target.iterdir() if not _OWN_FILE.fullmatch(file.name))
        if foreign:
            raise UserError(f"{shown} holds {foreign[0]}, which is no part of the bundle: move it away first")
    elif target.is_dir() and any(target.iterdir()):
        raise UserError(f"{shown} is not empty and is no bundle: name another folder")


def _write(file: Path, content: Content) -> None:
    with replacing(file, "wb") as stream:
        if isinstance(content, bytes):
            stream.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, stream, 1 << 20)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    _write(folder / MANIFEST, text.encode() + b"\n")


def _complete(manifest: Mapping[str, Any], folder: Path, with_parity: bool) -> dict[str, Any]:
    result = copy.deepcopy(dict(manifest))
    if with_parity:
        result["parity"] = _file(folder, PARITY)
    result["precisions"] = {
        name: _with_digests(entry, folder) for name, entry in result["precisions"].items()
    }
    return result


def _with_digests(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    graphs = {graph: {**entry[graph], **_file(folder, entry[graph]["file"])} for graph in GRAPHS}
    return {**entry, **graphs}


def _file(folder: Path, name: object) -> dict[str, Any]:
    file = folder / check_file_name(name, str(folder))
    return {"file": file.name, "sha256": file_sha256(file), "bytes": file.stat().st_size}


def _digest(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_sha256(content)


def _named_files(manifest: Mapping[str, Any]) -> set[str]:
    return {entry[graph]["file"] for entry in manifest["precisions"].values() for graph in GRAPHS}
