"""One training run from its command line: data, network, loop, final weights."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import torch
from torch import Tensor

from jntrt.bench.sequences.clips import Clip, load_clips
from jntrt.export.families import family
from jntrt.export.families.crops import conventions_of
from jntrt.export.families.plain import PlainForm
from jntrt.runtime.command.files import replacing
from jntrt.runtime.command.progress import progress_bar
from jntrt.runtime.errors import UserError
from jntrt.train.data.assets import Assets
from jntrt.train.data.coco import is_coco, load_coco
from jntrt.train.data.loader import Feed, loader
from jntrt.train.data.pairs import PairSource
from jntrt.train.data.teacher import CHANNELS, check_teacher
from jntrt.train.data.videos import VideoPairs
from jntrt.train.data.write_sequences import write_sequences
from jntrt.train.run.config import TrainConfig, load_config, with_overrides
from jntrt.train.run.state import check_folder
from jntrt.train.run.training import train


def train_run(
    config_name: str,
    data: Path,
    out: Path | None,
    teacher: Path | None,
    steps: int | None,
    workers: int,
    threads: int | None,
) -> None:
    """Trains the configuration and writes `weights.safetensors` (averaged, float32) into the run's folder."""
    from safetensors.torch import save

    config = with_overrides(load_config(config_name), steps=steps)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch % world:
        raise UserError(f"{config.name}: batch {config.batch} cannot be shared evenly by {world} processes")
    if workers < 0 or (threads is not None and threads < 1):
        raise UserError("--workers has to be at least 0, --threads at least 1")
    teacher = teacher if config.teacher and config.teacher_until else None
    if teacher is not None:
        check_teacher(teacher)
    # Worker processes are forks: a thread pool that OpenCV had started here would be dead there.
    cv2.setNumThreads(0)
    folder = out or Path("runs") / config.name
    check_folder(folder)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    model, source = prepare(config, data)

    def feed(first: int) -> Iterator[dict[str, Tensor]]:
        share = config.batch // world
        until = config.teacher_until * world
        return loader(Feed(source, share, config.seed, first, world, teacher, until), workers)

    with progress_bar("{task.description}", "{task.fields[note]}") as bar:
        task = bar.add_task(config.name, total=config.steps, note="", visible=rank == 0)

        def report(step: int, row: dict[str, float]) -> None:
            bar.update(task, completed=step, note=f"loss {row['loss']:.3f}")

        channels = CHANNELS if teacher is not None else 0
        average = train(config, model, feed, folder, report=report, teacher_channels=channels)
    if rank:
        return
    tensors = {
        k: v.detach().cpu().contiguous() for k, v in average.items() if not k.endswith("num_batches_tracked")
    }
    with replacing(folder / "weights.safetensors", "wb") as stream:
        stream.write(save(tensors, {"config": json.dumps(config.to_dict())}))


def prepare(config: TrainConfig, data: Path) -> tuple[PlainForm, PairSource]:
    """The network at its start, and what it learns from: scenes (`data`/images, masks) and sequences."""
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder")
    assets = None
    if (data / "images").is_dir() and (data / "masks").is_dir() and config.synthetic > 0:
        assets = Assets.load(data / "images", data / "masks", held_out=False)
    objective, crops = config.objective(), conventions_of(family(config.family), config.recipe)
    videos = None
    if config.synthetic < 1 or assets is None:
        videos = VideoPairs(trained_on(find_sequences(data), config.held_out), crops.search)
    model = objective.network()
    objective.initialise(model, config.start, None if assets is None else assets.photos, config.seed)
    return model, PairSource(objective, crops, assets, videos, config.synthetic, config.positive)


def trained_on(sequences: list[Clip], held_out: int) -> list[Clip]:
    """All but every fifth row of `held_out` sequences: neighbouring recordings go together."""
    if not held_out:
        return sequences
    return [clip for number, clip in enumerate(sequences) if number // held_out % 5 != 4]


def find_sequences(data: Path) -> list[Clip]:
    """The annotated sequences to train on: `data`/drones/train, COCO, or what layout `data` has."""
    drones = data / "drones" / "train"
    if drones.is_dir():
        return load_clips(drones)
    return load_coco(data) if is_coco(data) else load_clips(data)


def measure_run(run: Path, data: Sequence[Path], limit: int | None) -> dict[str, float]:
    """`track.measure` of the averaged weights of `run` on the sequences at `data`, and the run's `step`."""
    from jntrt.train.run.measure import averaged_model, measure

    if not data:
        raise UserError("name the sequences to measure on: train-jn measure RUN DATA")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: has to be at least 1")
    config, model, step = averaged_model(run)
    return {"step": float(step)} | measure(family(config.family), model, load_clips(data)[:limit])


def finish_run(run: Path, out: Path, name: str, threshold: float | None, licence: str) -> list[Path]:
    """Writes the checkpoint of `run` and the plot of its log into `out`; returns the paths."""
    from jntrt.train.run.measure import averaged_model
    from jntrt.train.run.plot import plot_log
    from jntrt.train.run.reference_files import write_reference

    config, model, _ = averaged_model(run)
    experiment = {"family": config.family, **family(config.family).experiment(model.recipe)}
    paths = write_reference(model.state_dict(), experiment, out, name, threshold, licence)
    if (run / "log.csv").is_file():
        plot_log(run / "log.csv", out / "training.png")
        paths.append(out / "training.png")
    return paths


def reference_run(
    data: Path, teacher: Path, run: Path | None, out: Path, config: str, workers: int
) -> dict[str, float]:
    """From nothing to the reference checkpoint: train, render validation, measure, write.

    Each part that is there already (in `run`) is taken as it is, so a stopped command can be given again.
    Returns the figures on the rendered clips and, so that the threshold has seen real targets too, on those
    of `data`/drones/val; the threshold goes into the checkpoint's recipe.
    """
    name = load_config(config).name
    run = run or Path("runs") / name
    train_run(config, data, run, teacher, None, workers, None)
    if int(os.environ.get("RANK", "0")):
        return {}
    validation, part = run / "validation", run / "validation.part"
    if not validation.is_dir():
        shutil.rmtree(part, ignore_errors=True)  # of a command that was stopped here
        write_sequences(data, part)
        part.rename(validation)
    held_out = data / "drones" / "val"
    figures = measure_run(run, [validation, *([held_out] if held_out.is_dir() else [])], None)
    threshold = None if math.isnan(figures["threshold"]) else figures["threshold"]
    finish_run(run, out, name, threshold, "Apache-2.0")
    return figures
