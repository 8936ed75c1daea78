"""What an accuracy run says: tables of at most 80 columns, a dictionary for JSON, the success plot."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # here, so that a missing extra is told before hours of tracking
from rich.console import Console
from rich.table import Table

from jntrt.bench.accuracy.baselines import STATIC
from jntrt.bench.sequences.evaluate import MIN_CLIPS, Evaluation, compare
from jntrt.bench.sequences.metrics import SUCCESS_THRESHOLDS
from jntrt.bench.tables import titled_table
from jntrt.runtime.command.files import replacing

LEGEND = """\
Pooled frames: GOT-10k's rule, all frames of all clips in one pot; long clips
weigh more. Mean over clips: every clip weighs the same. Overlaps leave out
frame 0 and frames without a visible target.
AO mean overlap · SR.5, SR.75 share of frames with overlap above it
AUC success, 21 thresholds (OTB) · P20 centre within 20 px (OTB) · Pn centre
within 0.2 target sizes (LaSOT); these three count frame 0
AUROC presence score, present against absent frames (- : absence not annotated,
or no score) · ms median of one frame, tracker alone, decoding not in it (- :
workers shared the machine)
ΔAO difference to the first tracker, mean over clips, with its 95 % bootstrap
interval (clips drawn); an interval that holds 0 shows no difference"""


def print_tables(evaluations: Sequence[Evaluation], console: Console) -> None:
    """Both tables and the legend. The first evaluation is the one that the others are compared with."""
    first = evaluations[0].measures
    pooled = titled_table(
        f"Pooled frames ({first.frames} frames)", "tracker", "AO", "SR.5", "SR.75", "AUROC", "ms", "FPS"
    )
    clips = titled_table(
        f"Mean over clips ({first.clips} clips)", "tracker", "AO", "SR.5", "SR.75", "AUC", "P20", "Pn"
    )
    for evaluation in evaluations:
        m = evaluation.measures
        times = ((evaluation.milliseconds, 2), (evaluation.fps, 0))
        if evaluation.name == STATIC:  # does nothing, at a million frames a second
            times = ((math.nan, 2), (math.nan, 0))
        pooled.add_row(
            evaluation.name,
            *(_share(value) for value in (m.ao_frames, m.sr50_frames, m.sr75_frames, m.presence_auroc)),
            *("-" if math.isnan(v) else f"{v:.{digits}f}" for v, digits in times),
        )
        means = (m.ao_clips, m.sr50_clips, m.sr75_clips, m.auc_clips, m.precision20_clips)
        clips.add_row(
            evaluation.name,
            *(_share(value) for value in (*means, m.normalised_precision_clips)),
        )
    tables = [pooled, clips]
    if len(evaluations) > 1 and first.clips >= MIN_CLIPS:
        tables.append(_differences(evaluations))
    for table in tables:
        console.print(table)
        console.print()
    console.print(LEGEND, highlight=False)


def to_dict(evaluations: Sequence[Evaluation], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, for JSON; a figure that does not exist is None, never NaN."""
    entries = []
    for number, evaluation in enumerate(evaluations):
        difference = compare(evaluations[0], evaluation) if number else None
        entries.append(
            {
                "name": evaluation.name,
                "tracker": dict(evaluation.identity),
                "measures": {key: _finite(value) for key, value in asdict(evaluation.measures).items()},
                "milliseconds_median": _finite(evaluation.milliseconds),
                "fps_mean": _finite(evaluation.fps),
                "success_curve": [float(value) for value in _success(evaluation)],
                "ao_difference_to_first": None
                if difference is None
                else dict(zip(("mean", "low", "high"), difference, strict=True)),
                "clips": {
                    clip.name: {
                        "frames": len(clip.overlaps),
                        "ao": _finite(float(clip.overlaps.mean())) if len(clip.overlaps) else None,
                        "auc": float(clip.success.mean()),
                        "precision20": clip.precision,
                        "normalised_precision": clip.normalised_precision,
                    }
                    for clip in evaluation.clips
                },
            }
        )
    thresholds = [float(value) for value in SUCCESS_THRESHOLDS]
    return {"machine": dict(machine), "success_thresholds": thresholds, "trackers": entries}


def plot_success(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Success plot (OTB: share of frames above an overlap threshold, mean over clips) as PNG."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for evaluation in sorted(evaluations, key=lambda item: -item.measures.auc_clips):
        label = f"{evaluation.name} [{evaluation.measures.auc_clips:.3f}]"
        axes.plot(SUCCESS_THRESHOLDS, _success(evaluation), marker=".", label=label)
    axes.set(xlabel="overlap threshold", ylabel="success rate, mean over clips", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"Success, {evaluations[0].measures.clips} clips [AUC]")
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)


def _success(evaluation: Evaluation) -> np.ndarray[Any, np.dtype[np.float64]]:
    curve: np.ndarray[Any, np.dtype[np.float64]] = np.mean([c.success for c in evaluation.clips], axis=0)
    return curve


def _share(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _differences(evaluations: Sequence[Evaluation]) -> Table:
    table = titled_table(
        f"AO against {evaluations[0].name}, mean over clips", "tracker", "ΔAO", "95 % from", "to"
    )
    for evaluation in evaluations[1:]:
        difference = compare(evaluations[0], evaluation)
        table.add_row(
            evaluation.name, *(["-"] * 3 if difference is None else [f"{v:+.3f}" for v in difference])
        )
    return table


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
