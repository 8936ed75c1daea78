"""`train-jn finetune`, part by part: each leaves a note, so that the same command goes on after a stop."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from jntrt.bench.sequences.evaluate import compare
from jntrt.export.families import family
from jntrt.export.families.crops import conventions_of
from jntrt.export.families.plain import PlainForm
from jntrt.export.pipeline import export_checkpoint
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.command.files import replacing
from jntrt.runtime.command.progress import progress_bar
from jntrt.runtime.errors import GateError, UserError
from jntrt.train.data.loader import Feed, loader
from jntrt.train.data.pairs import PairSource, batches, stack
from jntrt.train.data.regions import Regions, pictures_of, read_pictures
from jntrt.train.data.videos import VideoPairs
from jntrt.train.finetune.clips import Material, gather
from jntrt.train.finetune.judge import (
    SHARES,
    between,
    check,
    judge_bundle,
    judge_model,
    nearest_of_the_good,
    table,
)
from jntrt.train.finetune.precision import bfloat16_is_faster
from jntrt.train.finetune.start import Start, find_start
from jntrt.train.run.config import TrainConfig
from jntrt.train.run.measure import measure
from jntrt.train.run.reference_files import check_name, write_reference
from jntrt.train.run.state import check_folder
from jntrt.train.run.training import train

CHECKS = 4  # of a run, evenly spread, the last one at its end
PATIENCE = 2  # checks in a row below the best that end it
NOTES, BEST = "finetune.json", "best.safetensors"


@dataclass(frozen=True)
class Request:
    """What was asked for; the command's help explains each."""

    start: str
    data: Path
    out: Path
    name: str
    pictures: Path | None
    steps: int | None
    workers: int
    threads: int | None


class Notes:
    """What has been decided so far, in the output folder."""

    def __init__(self, folder: Path, begun: dict[str, Any]) -> None:
        """begun: what must not change between two calls. UserError where it has."""
        self._path = folder / NOTES
        self.values: dict[str, Any] = {"begun": begun}
        if self._path.is_file():
            try:
                self.values = json.loads(self._path.read_text(encoding="utf-8"))
                before = self.values["begun"]
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{self._path}: not the notes of a fine-tuning; give another --out") from None
            changed = [key for key in begun if before.get(key) != begun[key]]
            if changed:
                raise UserError(
                    f"{folder} was begun with another {' and '.join(changed)}; give another --out"
                )

    def keep(self, **values: Any) -> None:
        """Notes more, on disk when this returns."""
        self.values |= values
        with replacing(self._path) as stream:
            json.dump(self.values, stream, indent=1)


def finetune(request: Request) -> tuple[list[str], dict[str, Any]]:
    """Trains, chooses, exports and judges; the table's lines and the figures.

    GateError where nothing that was trained tracks the held-back clips better than the network before; then
    no bundle is left.
    """
    began = time.monotonic()
    if request.workers < 0 or (request.threads is not None and request.threads < 1):
        raise UserError("--workers has to be at least 0, --threads at least 1")
    if request.steps is not None and request.steps < CHECKS:
        raise UserError(f"--steps {request.steps}: at least {CHECKS}")
    check_name(request.name)
    check_folder(request.out)
    cv2.setNumThreads(0)  # worker processes are forks
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    start = find_start(request.start)
    request.out.mkdir(parents=True, exist_ok=True)
    begun = {"checkpoint": start.sha256, "data": str(request.data.resolve()), "steps": request.steps}
    notes = Notes(request.out, begun)
    material = gather(request.data, request.out / "frames")
    for name, why in material.refused:
        print(f"left out: {name}: {why}", file=sys.stderr)
    config = start.config(request.name, request.steps, negatives=material.negatives)
    before = start.model()
    _train(request, config, material, before, notes)
    chosen = _choose(request, start, before, material, notes)
    written = _write(request, start, chosen, notes)
    lines, figures = _judge(request, start, before, material, written, notes)
    minutes = notes.values.get("minutes", 0.0) + (time.monotonic() - began) / 60
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    notes.keep(minutes=minutes)
    lines.append(f"{minutes:.1f} minutes, {memory:.1f} GiB in this process")
    return lines, figures | {"minutes": minutes, "memory_gib": memory}


def _train(
    request: Request, config: TrainConfig, material: Material, before: PlainForm, notes: Notes
) -> None:
    """To the end, or until the held-back clips are tracked worse; the best check's weights stay."""
    if notes.values.get("trained"):
        return
    torch.manual_seed(config.seed)
    objective, crops = config.objective(), conventions_of(family(config.family), config.recipe)
    videos = VideoPairs(material.taught, crops.search)
    if request.pictures is None:
        print("no --pictures: the first frames of the clips hold the network back instead", file=sys.stderr)
        pictures = pictures_of(material.taught)
    else:
        pictures = read_pictures(request.pictures)
    source = PairSource(objective, crops, None, videos, 0.0, config.positive, Regions(pictures))
    model = objective.network()
    objective.initialise(model, config.start, None, config.seed)
    if "bfloat16" not in notes.values:
        batch = {k: torch.from_numpy(v) for k, v in stack(next(batches(source, config.batch, 0))[1]).items()}
        faster, single, half = bfloat16_is_faster(objective, model, batch)
        print(f"a step takes {single:.2f} s in float32, {half:.2f} s in bfloat16", file=sys.stderr)
        notes.keep(bfloat16=faster, step_seconds=[single, half if half == half else None])

    def feed(first: int) -> Iterator[dict[str, Tensor]]:
        return loader(Feed(source, config.batch, config.seed, first), request.workers)

    checks: list[list[float]] = notes.values.get("checks", [])
    if not checks:
        checks = [[0, check(before, config.family, material.choosing)]]
        notes.keep(checks=checks)
    with progress_bar("{task.description}", "{task.fields[note]}") as bar:
        task = bar.add_task(config.name, total=config.steps, note=f"AO {checks[-1][1]:.3f}")

        def report(step: int, row: dict[str, float]) -> None:
            bar.update(task, completed=step, note=f"loss {row['loss']:.3f}, AO {checks[-1][1]:.3f}")

        for number in range(len(checks), CHECKS + 1):
            stop = config.steps * number // CHECKS
            average = train(
                config,
                model,
                feed,
                request.out / "run",
                stop_at=stop,
                report=report,
                bfloat16=notes.values["bfloat16"],
            )
            plain = family(config.family).plain(config.recipe)
            plain.load_state_dict(objective.finished(average))
            score = check(plain, config.family, material.choosing)
            if score >= max([0.0, *(ao for _, ao in checks[1:])]):
                with replacing(request.out / BEST, "wb") as stream:
                    stream.write(save({k: v.contiguous() for k, v in plain.state_dict().items()}))
            checks.append([stop, score])
            notes.keep(checks=checks)
            best = max(range(1, len(checks)), key=lambda index: checks[index][1])
            if len(checks) - 1 - best >= PATIENCE:
                break
    notes.keep(trained=True)


def _choose(
    request: Request, start: Start, before: PlainForm, material: Material, notes: Notes
) -> dict[str, Tensor]:
    """The weights between before and after; the share is noted. GateError where none gains."""
    after = load_file(request.out / BEST)
    own = before.state_dict()
    if "share" not in notes.values:
        kind, model = family(start.family), family(start.family).plain(start.recipe)
        shares: dict[float, dict[str, float]] = {0.0: measure(kind, before, material.choosing)}
        for share in SHARES:
            model.load_state_dict(between(own, after, share))
            shares[share] = measure(kind, model.eval(), material.choosing)
        gains = {share: shares[share]["ao"] - shares[0.0]["ao"] for share in SHARES}
        share = nearest_of_the_good(gains)
        notes.keep(share=share, gains=gains, threshold=shares[share]["threshold"])
    if not notes.values["share"]:
        raise GateError(
            f"--data {request.data}: no weights after training track the held-back clips better than"
            f" {request.start} does; nothing was exported"
        )
    return between(own, after, notes.values["share"])


def _write(request: Request, start: Start, weights: dict[str, Tensor], notes: Notes) -> Path:
    """Checkpoint and bundle; the bundle's path. The export compares the graphs with the network."""
    experiment = {"family": start.family, **family(start.family).experiment(start.recipe)}
    threshold, licence = notes.values["threshold"], start.licence
    paths = write_reference(weights, experiment, request.out, request.name, threshold, licence)
    return export_checkpoint(paths[0], request.out / request.name).path


def _judge(
    request: Request, start: Start, before: PlainForm, material: Material, written: Path, notes: Notes
) -> tuple[list[str], dict[str, Any]]:
    """Before and after on the judging clips."""
    rows = [
        judge_model(f"before ({request.start})"[:27], start.family, before, material.judging),
        judge_bundle(f"after ({request.name})", open_bundle(written), request.threads, material.judging),
    ]
    if rows[1].measures.ao_clips < rows[0].measures.ao_clips:
        shutil.rmtree(written)
        raise GateError(
            f"--data {request.data}: the held-back clips are tracked worse than before"
            f" (AO {rows[1].measures.ao_clips:.3f} after {rows[0].measures.ao_clips:.3f}); no bundle was left"
        )
    apart = "chosen nothing" if material.apart else "chosen the weights too"
    lines = [f"{len(material.judging)} held-back clips, which have {apart}; means over clips", *table(rows)]
    difference = compare(*rows)
    if difference is not None:
        mean, low, high = difference
        lines.append(f"AO {mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} (clips drawn)")
    steps = notes.values["checks"][-1][0]
    lines.append(f"{steps:.0f} steps, weights {notes.values['share']:g} of the way; bundle: {written}")
    figures = {
        "bundle": str(written),
        "ao_before": rows[0].measures.ao_clips,
        "ao_after": rows[1].measures.ao_clips,
        "ao_difference": None if difference is None else list(difference),
        "clips": [clip.name for clip in material.judging],
        "apart": material.apart,
        **{key: notes.values[key] for key in ("share", "gains", "checks", "bfloat16", "step_seconds")},
        "left_out": [list(pair) for pair in material.refused],
    }
    return lines, figures
