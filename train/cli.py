"""`train-jn`: pairs → checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jntrt.runtime.command import new_app, run

app = new_app("train-jn", "Train an OSTrack or JN tracker with the papers' objectives.")


@app.default
def train(
    *,
    config: str,
    data: Path,
    out: Path | None = None,
    teacher: Path | None = None,
    steps: int | None = None,
    workers: int = 2,
    threads: int | None = None,
) -> None:
    """Train, or go on with the run in the output folder.

    Parameters
    ----------
    config
        A packaged configuration (jn-nano, jn-256, ostrack-256, ...) or a YAML file.
    data
        Folder with annotated sequences, or with images/, masks/ and drones/train for jn-nano.
    out
        The run's folder: state, log, final weights. Default: runs/NAME.
    teacher
        Folder with NanoTrack's ncnn files, for the distillation of features.
    steps
        In place of the configuration's number of steps.
    workers
        Processes that make batches.
    threads
        CPU threads of the network.
    """
    from jntrt.train.run import train_run

    train_run(config, data, out, teacher, steps, workers, threads)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `train-jn`."""
    sys.exit(run(app, argv))
