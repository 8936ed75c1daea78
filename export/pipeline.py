"""From a checkpoint to a bundle in its target, checked on the way."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jntrt.export.checkpoint import Checkpoint, read_checkpoint
from jntrt.export.experiment_yaml import ExperimentYaml, read_experiment_yaml
from jntrt.export.families import family, family_flags, folder_name, recognise
from jntrt.export.families.inference import Inferred
from jntrt.export.key_map import read_key_map, rename
from jntrt.export.onnx.tensors import tensor_rows
from jntrt.export.report import printable
from jntrt.runtime.bundle import KEPT, PARITY, check_target, file_sha256, write_bundle
from jntrt.runtime.bundle.manifest import FORMAT, MAX_BATCH
from jntrt.runtime.errors import GateError, UserError

if TYPE_CHECKING:
    from jntrt.export.families.contract import Family, Weights

SAMPLES = 4
"""Drawn crops that the graphs are compared on; a batch of more targets takes one of each."""

_ENDINGS = (".pth.tar", ".pth", ".pt", ".bin", ".safetensors", ".tar", ".ckpt")


@dataclass(frozen=True)
class ExportResult:
    """A written bundle, and what there is to say about how it came about."""

    path: Path
    manifest: dict[str, Any]
    inferred: Inferred
    unused: tuple[str, ...]
    skipped: tuple[str, ...]
    foreign: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "bundle": str(self.path),
            "inferred": [{"what": w, "value": v, "from": s} for w, v, s in self.inferred.rows],
            "not_known": list(self.inferred.not_known),
            "unused": list(self.unused),
            "skipped": list(self.skipped),
            "foreign": list(self.foreign),
            "manifest": self.manifest,
        }


def export_checkpoint(
    path: Path,
    output: Path | None = None,
    *,
    flags: object = None,
    config: Path | None = None,
    key_map: Path | None = None,
    batch: int = 1,
    progress: Callable[[str], None] = lambda step: None,
) -> ExportResult:
    """Exports the checkpoint at `path` to the bundle folder `output` (default: its name without ending).

    flags: a dataclass of what the user said, a family's or of `families.command_flags`; None: nothing.
    config: an experiment file; None: the YAML of the checkpoint's stem beside it, where there is one.
    Raises `UserError` for anything the user can mend and `GateError` when the graphs differ from the plain
    form; then nothing is left behind, and a bundle that was there before is as it was.
    """
    if not 1 <= batch <= MAX_BATCH:
        raise UserError(f"--batch {batch}: say 1 to {MAX_BATCH}")
    output = output or Path(_stem(path))
    target = output.resolve()
    check_target(target, str(output), overwrite=True)
    progress(f"reading {path.name}")
    name, inferred, checkpoint, weights = read_network(path, flags=flags, config=config, key_map=key_map)
    kind = family(name)

    # Only now the slow imports: what is wrong with the file is said at once. All of them: a missing one
    # must not be found after a minute of work.
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch

    from jntrt.export.families.plain import load_weights
    from jntrt.export.parity import parity
    from jntrt.export.rules import check_graph, count_macs
    from jntrt.export.samples import draw_samples

    try:
        # First without memory: one weight's shape must not make a network that the others do not fill.
        with torch.device("meta"):
            load_weights(kind.plain(inferred.recipe), weights)
        model = kind.plain(inferred.recipe).eval()
        unused = load_weights(model, weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # NumPy need not warn of weights that overflow: the comparison refuses what they make.
    with np.errstate(all="ignore"):
        progress("building the graphs")
        template, track = kind.graphs(inferred.recipe, weights, batch)
        for graph in (template, track):
            check_graph(graph)
        progress("comparing them with PyTorch")
        samples = draw_samples(kind, inferred.recipe, batch * max(1, SAMPLES // batch))
        check = parity(model, template, track, samples)
    if not check.passed:
        raise GateError(f"{path}: the graphs differ from the plain form ({check}); nothing was written")
    progress("writing the bundle")
    manifest = _manifest(name, kind, inferred, checkpoint, output, batch)
    manifest["macs"] = {"plain": batch * kind.macs(inferred.recipe), "fast": count_macs(track)}
    manifest["inputs"] = tensor_rows("template", template.graph.input) + tensor_rows(
        "track", track.graph.input
    )
    manifest["outputs"] = tensor_rows("template", template.graph.output) + tensor_rows(
        "track", track.graph.output
    )
    manifest["precisions"] = {
        "fp32": {
            "template": {"file": "template.onnx"},
            "track": {"file": "track.onnx"},
            "check": {**check.to_dict(), "samples": len(check.box)},
        }
    }
    kept = {KEPT + name: cells for name, cells in check.kept.items()}
    files = {
        "template.onnx": template.SerializeToString(),
        "track.onnx": track.SerializeToString(),
        PARITY: _npz({**samples, "box": check.box, "score": check.score, **kept}),
    }
    # Not `output`: where that is ".", the folder that it means is gone afterwards.
    bundle = write_bundle(target, manifest, files)
    return ExportResult(
        output, bundle.manifest, inferred, tuple(unused), checkpoint.skipped, checkpoint.names
    )


def read_network(
    path: Path, *, flags: object = None, config: Path | None = None, key_map: Path | None = None
) -> tuple[str, Inferred, Checkpoint, Weights]:
    """The family's name, the recipe, the checkpoint at `path` and its weights under the family's own names.

    Arguments and errors as `export_checkpoint`'s.
    """
    given = {} if flags is None else {key: said for key, said in vars(flags).items() if said is not None}
    beside = None if config else _yaml_beside(path)
    said_by = config or beside
    experiment = read_experiment_yaml(said_by) if said_by else None
    renames = read_key_map(key_map) if key_map else None
    checkpoint = read_checkpoint(path)
    weights: Weights = rename(checkpoint.weights, renames) if renames else checkpoint.weights
    try:
        name, source = _family_name(given, experiment, weights)
        kind = family(name)
        inferred = kind.infer(weights, experiment, family_flags(name, given), _recipe_names(checkpoint))
        weights = kind.own_names(weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    first = [("recognised as", name, source)]
    if beside:
        first.append(("experiment file", printable(beside.name), "found beside the checkpoint"))
    return name, replace(inferred, rows=(*first, *inferred.rows)), checkpoint, weights


def _stem(path: Path) -> str:
    for ending in _ENDINGS:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.name[: -len(ending)]
    return f"{path.name}.bundle"


def _yaml_beside(path: Path) -> Path | None:
    """The experiment file that `train-jn` and others lay beside a checkpoint."""
    files = (path.with_name(_stem(path) + ending) for ending in (".yaml", ".yml"))
    return next((file for file in files if file.is_file()), None)


def _recipe_names(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Where an official recipe's name may stand, in the order in which it counts."""
    names = []
    if checkpoint.project_path:
        names.append((checkpoint.project_path.rstrip("/").rpartition("/")[2], "settings.project_path"))
    # The folder in which the user sees the file; where that is a link, also the one in which it lies.
    folders = (Path(os.path.abspath(checkpoint.path)).parent, checkpoint.path.resolve().parent)
    return [*names, *((folder.name, "the file's folder") for folder in folders)]


def _family_name(
    given: dict[str, Any], experiment: ExperimentYaml | None, weights: Weights
) -> tuple[str, str]:
    """The family's name and what said it: the flag, else the YAML, else the weights."""
    if "family" in given:
        return folder_name(given["family"]), "--family"
    if experiment is not None and experiment.family is not None:
        return folder_name(experiment.family), experiment.name
    name, reason = recognise(weights)
    return name, f"weights: {reason}"


def _manifest(
    name: str, kind: Family, inferred: Inferred, checkpoint: Checkpoint, output: Path, batch: int
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": printable(output.resolve().name)[:100] or "bundle",
        "family": name,
        "batch": batch,
        "weights": inferred.weights,
        "license": printable(inferred.license),
        "recipe": inferred.recipe.to_dict(),
        **kind.conventions(inferred.recipe),
        "presence_threshold": inferred.presence_threshold,
        "source": {
            "checkpoint": printable(checkpoint.path.name),
            "sha256": file_sha256(checkpoint.path),
            **{package: _version(package) for package in ("jntrt", "torch", "onnx")},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    """parity.npz: what the graphs take beside the memory, and what came out."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its own keyword is allow_pickle
    return buffer.getvalue()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
