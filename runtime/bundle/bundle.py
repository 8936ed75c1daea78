"""Bundles: the folder that a checkpoint becomes.

A bundle is `bundle.json` beside the ONNX files that it names. An engine opens a file only after its size and
sha256 were compared.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jntrt.runtime.bundle.conventions import (
    CropSpec,
    StateInput,
    StateSpec,
    crop_spec,
    state_inputs,
    state_spec,
)
from jntrt.runtime.bundle.manifest import (
    GRAPHS,
    MANIFEST,
    MAX_BATCH,
    MAX_CROPS,
    Reader,
    check_file_entry,
    check_precisions,
    check_tensors,
    read_manifest,
)
from jntrt.runtime.bundle.replace import recover
from jntrt.runtime.errors import UserError

PARITY = "parity.npz"


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
    state: StateSpec
    state_inputs: dict[str, StateInput]
    presence_threshold: float
    redetect_threshold: float | None  # None: not measured
    recipe: dict[str, Any]
    _verified: set[tuple[str, str]] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Read and check the manifest of the bundle at `path`. Raises UserError: what is wrong with it."""
        try:
            folder = Path(path).resolve()
            recover(folder, MANIFEST)
            manifest = read_manifest(folder, str(path))
        except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
            raise UserError(f"{ascii(str(path))[:200]} is not a bundle: it cannot be looked at") from error
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
            state=state_spec(reader),
            state_inputs=state_inputs(reader),
            presence_threshold=reader.number("presence_threshold", 0, 1),
            redetect_threshold=(
                reader.section("redetect").number("threshold", 0, 1) if "redetect" in manifest else None
            ),
            recipe=reader.section("recipe").values,
        )
        for spec in (bundle.template, bundle.search):
            if bundle.batch * spec.size**2 > MAX_CROPS:
                raise UserError(f"{where}: {bundle.batch} crops of {spec.size} pixels a side are too many")
        check_precisions(reader.section("precisions"))
        for kind in ("inputs", "outputs"):
            check_tensors(manifest, kind, where)
        for name in bundle.state_inputs:
            if not bundle.takes("track", name):
                raise UserError(f"{where}: state input {name!r} is no input of the track graph: export again")
        return bundle

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names of the precisions that it holds: fp32 first, then in the order they were added."""
        return tuple(sorted(self.manifest["precisions"], key=lambda name: name != "fp32"))

    @property
    def macs(self) -> float:
        """Multiply-accumulates of a frame; without end where the manifest does not say it."""
        macs = self.manifest.get("macs")
        told = macs.get("fast") if isinstance(macs, dict) else None
        return float(told) if isinstance(told, (int, float)) and told > 0 else math.inf

    @property
    def target_box_format(self) -> str:
        """How the network's target token takes its box, where it has one: the paper's cxcywh by default."""
        return str(self.recipe.get("target_box_format", "cxcywh"))

    @property
    def sha256(self) -> str:
        """Digest of the manifest, which names the digests of all files: it says what a figure is of."""
        return hashlib.sha256((self.path / MANIFEST).read_bytes()).hexdigest()

    def tensors(self, kind: str) -> list[tuple[str, str]]:
        """(graph, name) of the `inputs` or `outputs` that the manifest lists."""
        return [(entry["graph"], entry["name"]) for entry in self.manifest.get(kind, [])]

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

    @property
    def verified(self) -> list[tuple[str, str]]:
        """Names and digests of the files that were compared so far."""
        return sorted(self._verified)

    def assume(self, verified: Iterable[tuple[str, str]]) -> None:
        """Takes over what another process of ours, which waits for this one, has just `verified`."""
        self._verified.update((name, digest) for name, digest in verified)

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


def file_sha256(file: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_bundle(path: str | Path) -> bool:
    """Whether a folder says of itself that it is a bundle (its manifest may still be wrong)."""
    return (Path(path) / MANIFEST).is_file()
