"""`train-jn`: pairs → checkpoint."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.command.console import print_json

app = new_app("train-jn", "Train a tracker with its paper's objective.")


@app.default
def train(
    *,
    config: str,
    data: Path,
    out: Path | None = None,
    teacher: Path | None = None,
    steps: int | None = None,
    workers: int = 1,
    threads: int | None = None,
) -> None:
    """Train, or go on with the run in the output folder. Under torchrun the batch is shared by its processes.

    Parameters
    ----------
    config
        A packaged configuration (jn-nano, jn-256, ostrack-256 …; a wrong name lists them) or a YAML file.
    data
        Annotated sequences (GOT-10k, LaSOT, TrackingNet, OTB, videos with CSV) or COCO; for jn-nano a folder
        with images/, masks/ and drones/train.
    out
        The run's folder: state, log, weights. Default: runs/NAME.
    teacher
        Folder with NanoTrack's ncnn files, for the distillation of features. A run that was begun with it
        goes on with it.
    steps
        In place of the configuration's number of steps.
    workers
        Processes that make batches, per training process.
    threads
        CPU threads of the network.
    """
    from jntrt.train.run.commands import train_run

    train_run(config, data, out, teacher, steps, workers, threads)


@app.command
def sequences(
    *,
    data: Path,
    out: Path,
    count: int = 50,
    frames: int = 60,
    seed: int = 2026,
    scenes: Literal["ordinary", "vanishing", "staying"] = "ordinary",
    look: Literal["daylight", "infrared"] = "daylight",
    training: bool = False,
) -> None:
    """Render the synthetic validation sequences (GOT-10k layout with absence.label).

    Parameters
    ----------
    data
        Folder with images/ and masks/; only the held-out part of both is used, unless --training is given.
    out
        A new folder.
    count
        Sequences.
    frames
        Frames of each.
    seed
        The same seed gives the same frames.
    scenes
        vanishing: every target is away for 1 to 5 s of 30 frames and comes back elsewhere; staying: none is
        ever away. Both have a distractor of the target's kind.
    look
        infrared: each sequence as a thermal camera of its own would show it, to fine-tune for.
    training
        Of the photographs and objects that training sees: sequences to calibrate with.
    """
    from jntrt.train.data.write_sequences import write_sequences

    write_sequences(data, out, count, frames, seed, scenes=scenes, look=look, held_out=not training)


@app.command
def measure(run: Path, /, *data: Path, limit: int | None = None, json: bool = False) -> None:
    """Track annotated sequences with a run's averaged weights: AO, presence AUROC, threshold.

    AO is the mean over clips; the first frame and frames without the target do not count. The threshold is
    the score that 97 % of the visible frames reach.

    Parameters
    ----------
    run
        A run's folder.
    data
        Annotated sequences in any layout, one or more folders.
    limit
        Only so many of them.
    json
        Print JSON.
    """
    from jntrt.train.run.commands import measure_run

    figures = measure_run(run, data, limit)
    if json:
        print_json({k: None if math.isnan(v) else v for k, v in figures.items()})
    else:
        print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))


@app.command
def finish(
    run: Path,
    out: Path,
    *,
    name: str = "jn-nano",
    threshold: float | None = None,
    license: str = "Apache-2.0",
) -> None:
    """Write a run's averaged weights as fp16 safetensors with the recipe's YAML, for export-jn; plot its log.

    Parameters
    ----------
    run
        A run's folder.
    out
        Where NAME.safetensors and NAME.yaml go.
    name
        Name of both files.
    threshold
        Presence below this is reported as lost (train-jn measure on sequences with absence gives one).
    license
        The weights' licence.
    """
    from jntrt.train.run.commands import finish_run

    for path in finish_run(run, out, name, threshold, license):
        print(path)


@app.command
def reference(
    *,
    data: Path,
    teacher: Path,
    out: Path,
    run: Path | None = None,
    config: str = "jn-nano",
    workers: int = 1,
) -> None:
    """The whole recipe of jn-nano: train, render the validation set, measure, write the checkpoint.

    The presence threshold comes from the rendered clips and, where there are some, those in drones/val.

    Give the same command again to go on after a stop. Several processes: torchrun --nproc_per_node=2
    -m jntrt.train.cli reference ...

    Parameters
    ----------
    data
        Folder with images/, masks/ and drones/train.
    teacher
        Folder with NanoTrack's ncnn files.
    out
        Where NAME.safetensors, NAME.yaml and the plot go.
    run
        The run's folder. Default: runs/NAME.
    config
        The configuration, as for training.
    workers
        Processes that make batches, per training process.
    """
    from jntrt.train.run.commands import reference_run

    figures = reference_run(data, teacher, run, out, config, workers)
    if figures:
        print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))


@app.command
def finetune(
    *,
    start: Annotated[str, Parameter(name="--from")],
    data: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    name: str = "tuned",
    pictures: Path | None = None,
    steps: int | None = None,
    workers: int = 1,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Teach a trained tracker your kind of video: clips in, a checked bundle out.

    A fifth of the clips is held back. How long to train, and how far to go from the weights before to those
    after, is chosen on half of these, and the result measured on the other half. Where the tracker before was
    as good, the exit code is 3 and no bundle is left. The same command again goes on after a stop.

    Parameters
    ----------
    start
        What to begin with: nanotrack-v3, jn-nano, or a checkpoint that export-jn reads.
    data
        Annotated clips: a folder of what bench-jn accuracy takes. Broken ones are named and left out.
    out
        Folder for the run, NAME.safetensors, NAME.yaml and the bundle NAME/.
    name
        Name of the checkpoint.
    pictures
        A folder of other pictures, of any kind: there the tracker is to stay as it was.
    steps
        In place of the family's number of steps.
    workers
        Processes that make batches.
    threads
        CPU threads of the network.
    json
        Print the figures as JSON.
    """
    from jntrt.train.finetune.command import Request
    from jntrt.train.finetune.command import finetune as run_finetune

    lines, figures = run_finetune(Request(start, data, out, name, pictures, steps, workers, threads))
    if json:
        print_json(figures)
    else:
        print("\n".join(lines))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `train-jn`."""
    sys.exit(run(app, argv))


if __name__ == "__main__":
    main()
