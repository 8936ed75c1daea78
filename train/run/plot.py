"""The training log as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from jntrt.runtime.errors import UserError

CURVES = (("loss", "teacher"), ("giou", "l1", "qfl+", "qfl-", "focal", "focal-"))


def plot_log(log: Path, picture: Path) -> None:
    """Draws the columns of `log` (log.csv of a run) over the steps into the PNG `picture`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    if not log.is_file():
        raise UserError(f"{log}: no training log; give the folder of a run")
    with log.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for axis, names in zip(axes, CURVES, strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    axes[0].set_ylabel("mean over 20 steps")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
