"""Bundles: the folder that a checkpoint becomes.

A bundle is `bundle.json` beside the ONNX files that it names. An engine opens a file only after its size and
sha256 were compared. Writing is all or nothing: no reader ever meets half a bundle.
"""

import copy
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jntrt.runtime.bundle.manifest import (
    GRAPHS,
    MANIFEST,
    MAX_BATCH,
    CropSpec,
    Reader,
    check_file_entry,
    check_file_name,
    crop_spec,
    read_manifest,
)
from jntrt.runtime.errors import UserError

PARITY = "parity.npz"

# What may go with a bundle that is replaced; anything else in its folder is the user's.
_OWN_FILE = re.compile(
    r"bundle\.json|parity\.npz|calibration\.(json|html)|(template|track)\..*onnx|\.new\..*"
)

Content = bytes | Path  # of a file to write


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk with its checked manifest. Its files are hashed when first asked for."""

    path: Path
    manifest: dict[str, Any]
    name: str
    family: str
    batch: int
    template: CropSpec
    search: CropSpec
    presence_threshold: float
    recipe: dict[str, Any]
    _verified: set[tuple[str, str]] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Read and check the manifest of the bundle at `path`. Raises UserError: what is wrong with it."""
        folder = Path(path).resolve()
        manifest = read_manifest(folder, str(path))
        where = f"{path}: {MANIFEST}"
        reader = Reader(manifest, where)
        bundle = cls(
            path=folder,
            manifest=manifest,
            name=reader.text("name"),
            family=reader.text("family"),
            batch=reader.whole("batch", 1, MAX_BATCH),
            template=crop_spec(reader.section("template")),
            search=crop_spec(reader.section("search")),
            presence_threshold=reader.number("presence_threshold", 0, 1),
            recipe=reader.section("recipe").values,
        )
        precisions = reader.section("precisions")
        if not precisions.values:
            raise UserError(f"{where}: no precision in it: export the checkpoint again")
        for precision in precisions.values:
            for graph in GRAPHS:
                check_file_entry(precisions.section(precision).section(graph))
        for graph, tensor in bundle.tensors("inputs"):
            if graph not in GRAPHS:
                raise UserError(f"{where}: input {tensor!r} belongs to an unknown graph {graph!r}")
        return bundle

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names of the precisions that it holds: fp32 first, then in the order they were added."""
        return tuple(sorted(self.manifest["precisions"], key=lambda name: name != "fp32"))

    @property
    def sha256(self) -> str:
        """Digest of the manifest, which names the digests of all files: it says what a figure is of."""
        return hashlib.sha256((self.path / MANIFEST).read_bytes()).hexdigest()

    def tensors(self, kind: str) -> list[tuple[str, str]]:
        """(graph, name) of the `inputs` or `outputs` that the manifest lists."""
        entries = self.manifest.get(kind, [])
        try:
            return [(str(entry["graph"]), str(entry["name"])) for entry in entries]
        except (TypeError, KeyError) as error:
            text = f"{self.path}: {MANIFEST}: {kind!r} is not a list of tensors: export the checkpoint again"
            raise UserError(text) from error

    def takes(self, graph: str, tensor: str) -> bool:
        """Whether `graph` has an input of this name."""
        return (graph, tensor) in self.tensors("inputs")

    def entry(self, precision: str) -> dict[str, Any]:
        """The manifest's entry of a precision. Raises UserError when the bundle does not have it."""
        if precision not in self.manifest["precisions"]:
            has = ", ".join(self.precisions)
            raise UserError(
                f"bundle {self.name} has no precision {precision} (it has {has}): take one of these,"
                " or make it with calib-jn"
            )
        entry: dict[str, Any] = self.manifest["precisions"][precision]
        return entry

    def failed_gate(self, precision: str) -> bool:
        """Whether the precision was written although its accuracy gate refused it (`calib-jn --force`)."""
        gate = self.entry(precision).get("gate")
        return isinstance(gate, dict) and gate.get("passed") is False

    def graph(self, graph: str, precision: str) -> Path:
        """Path of the ONNX file of `graph` (template or track), its size and sha256 just compared."""
        return self._verify(self.entry(precision)[graph])

    def parity(self) -> Path:
        """Path of parity.npz, verified. Raises UserError when the bundle has none."""
        entry = self.manifest.get("parity")
        if not isinstance(entry, dict):
            raise UserError(f"bundle {self.name} has no {PARITY}: export the checkpoint again")
        check_file_entry(Reader(entry, f"{self.path}: {MANIFEST}: parity"))
        return self._verify(entry)

    def verify(self) -> list[Path]:
        """Compare every file that the manifest names with its size and sha256; all of them, fresh."""
        self._verified.clear()
        files = [self.graph(graph, precision) for precision in self.precisions for graph in GRAPHS]
        if "parity" in self.manifest:
            files.append(self.parity())
        return list(dict.fromkeys(files))

    def _verify(self, entry: dict[str, Any]) -> Path:
        file: Path = self.path / entry["file"]
        known = (file.name, entry["sha256"])  # both: two names with one digest are two files
        if known in self._verified:
            return file
        if file.is_symlink() or not file.is_file():
            raise UserError(f"{file} is missing: the bundle is incomplete, export it again or copy all of it")
        size = file.stat().st_size
        if size != entry["bytes"]:
            raise UserError(f"{file} has {size} bytes where {MANIFEST} says {entry['bytes']}: copy it again")
        if file_sha256(file) != entry["sha256"]:
            raise UserError(
                f"{file} is not the file that {MANIFEST} describes (sha256 differs): copy it again"
            )
        self._verified.add(known)
        return file


def default_bundle() -> Bundle:
    """The bundle that is packaged with jntrt: jn-nano."""
    folder = Path(__file__).parents[1] / "models" / "jn-nano"
    if not (folder / MANIFEST).is_file():
        raise UserError(
            "no bundle is packaged with this installation: name one that export-jn wrote"
            " (trtrun --bundle DIR, bench-jn latency DIR)"
        )
    return Bundle.open(folder)


def file_sha256(file: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_bundle(path: str | Path) -> bool:
    """Whether a folder says of itself that it is a bundle (its manifest may still be wrong)."""
    return (Path(path) / MANIFEST).is_file()


def write_bundle(
    directory: str | Path,
    manifest: Mapping[str, Any],
    files: Mapping[str, Content],
    *,
    overwrite: bool = True,
) -> Bundle:
    """Write a bundle at `directory` and open it.

    `files` are the contents by name, as bytes or as files to copy; the manifest's file entries need only
    `file`, size and sha256 are filled in, and parity.npz gets its entry. The folder is made beside its place,
    checked there and moved: a folder that is a bundle is replaced by one move (unless `overwrite` is False),
    an empty one is used, any other is refused with UserError.
    """
    place = Path(directory).resolve()
    check_place(place, str(directory), overwrite)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            work.chmod(0o755)
            for name, content in files.items():
                _write(work / check_file_name(name, "write_bundle"), content)
            _write_manifest(work, _complete(manifest, work, PARITY in files))
            Bundle.open(work).verify()
            _move(work, place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        text = os.strerror(error.errno or 0)
        raise UserError(f"the bundle {directory} cannot be written: {text}: choose another folder") from error
    return Bundle.open(directory)


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
    try:
        with _locked(bundle.path):
            _add_precision(bundle, name, files, new_entry)
    except OSError as error:
        text = os.strerror(error.errno or 0)
        raise UserError(
            f"the bundle {bundle.path} cannot be changed: {text}: copy it where you may write"
        ) from error
    return Bundle.open(bundle.path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Others who add a precision to this bundle wait: each would write the manifest as it had read it."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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


def check_place(place: Path, shown: str, overwrite: bool) -> None:
    """Raises UserError where no bundle may be written at `place`, which messages call `shown`."""
    if place.exists() and not place.is_dir():
        raise UserError(f"{shown} is a file: name a folder for the bundle")
    if is_bundle(place):
        if not overwrite:
            raise UserError(f"{shown} is a bundle already: name another folder")
        foreign = sorted(file.name for file in place.iterdir() if not _OWN_FILE.fullmatch(file.name))
        if foreign:
            raise UserError(f"{shown} holds {foreign[0]}, which is no part of the bundle: move it away first")
    elif place.is_dir() and any(place.iterdir()):
        raise UserError(f"{shown} is not empty and is no bundle: name another folder")


def _move(work: Path, place: Path) -> None:
    """Put the finished folder in its place; the old bundle waits beside it until the new one stands."""
    if not is_bundle(place):
        work.rename(place)  # takes the place of an empty folder
        return
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}.old.", dir=place.parent))
    place.rename(old)
    try:
        work.rename(place)
    except BaseException:  # Ctrl-C too
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(file: Path, content: Content) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".new.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream, 1 << 20)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
