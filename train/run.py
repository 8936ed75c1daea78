"""One training run from its command line: data, network, loop, final weights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from jntrt.bench.sequences import load_sequences
from jntrt.export.networks.ostrack import OSTrack
from jntrt.runtime.errors import UserError
from jntrt.train.assets import Assets
from jntrt.train.config import TrainConfig, load_config, with_overrides
from jntrt.train.feed import Feed, loader
from jntrt.train.initialise import initialise
from jntrt.train.loop import train
from jntrt.train.pairs import PairSource
from jntrt.train.videos import VideoPairs
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


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
    from safetensors.torch import save_file

    config = with_overrides(load_config(config_name), steps=steps)
    # Worker processes are forks: a thread pool that OpenCV had started here would be dead there, and wait for ever.
    cv2.setNumThreads(0)
    folder = out or Path("runs") / config.name
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    model, source = prepare(config, data)
    until = config.teacher_until if teacher is not None and config.teacher else 0

    def feed(first: int) -> Iterator[dict[str, Tensor]]:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        share = max(1, config.batch // world)
        return loader(
            Feed(source, share, config.seed, first, world, teacher if until else None, until * world), workers
        )

    from jntrt.train.teacher import CHANNELS

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with bar:
        task = bar.add_task(config.name, total=config.steps, note="")

        def report(step: int, row: dict[str, float]) -> None:
            bar.update(task, completed=step, note=f"loss {row['loss']:.3f}")

        average = train(config, model, feed, folder, report=report, teacher_channels=CHANNELS if until else 0)
    if int(os.environ.get("RANK", "0")):
        return
    tensors = {
        k: v.detach().cpu().contiguous() for k, v in average.items() if not k.endswith("num_batches_tracked")
    }
    save_file(tensors, folder / "weights.safetensors", {"config": json.dumps(config.to_dict())})


def prepare(config: TrainConfig, data: Path) -> tuple[OSTrack, PairSource]:
    """The network at its start, and what it learns from: scenes (`data`/images, masks) and sequences."""
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder")
    assets = None
    if (data / "images").is_dir() and (data / "masks").is_dir() and config.synthetic > 0:
        assets = Assets.load(data / "images", data / "masks", held_out=False)
    videos = None
    if config.synthetic < 1 or assets is None:
        drones = data / "drones" / "train"
        videos = VideoPairs(load_sequences(drones if drones.is_dir() else data))
    model = OSTrack(config.recipe, config.drop_path)
    if config.start == "principal":
        if assets is None:
            raise UserError(f"--data {data}: start: principal needs photographs in images/")
        initialise(model, assets.photos, config.seed)
    return model, PairSource(config.recipe, assets, videos, config.synthetic, config.positive)
