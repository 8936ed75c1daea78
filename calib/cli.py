"""calib-jn: adds float16 and int8 to a bundle, each behind a gate."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jntrt.bench.sequences.workers.options import ALONE, Workers
from jntrt.calib.options import Options
from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.command.console import print_json
from jntrt.runtime.command.lists import parse_integers, parse_words

if TYPE_CHECKING:
    from jntrt.calib.result import Calibrated

app = new_app("calib-jn", "Adds float16 and int8 to a bundle, each behind a gate on data it has not seen.")


@app.default
def calibrate(
    bundle: str,
    *,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    gate_data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    options: Annotated[Options, Parameter(name="*")],
    workers: Annotated[Workers, Parameter(name="*")] = ALONE,
    json: bool = False,
) -> int:
    """Add a precision to BUNDLE, calibrated on your own sequences and judged on others.

    The fp32 tracker follows the targets of DATA; ranges come from its crops. The new graphs are then compared
    with fp32 on held-back crops and sequences: below a threshold no graph is written and the exit code is 3.
    The figures are in the bundle's calibration.html either way.

    Parameters
    ----------
    bundle
        The bundle's folder, or a packaged bundle's name.
    data
        Annotated sequences or videos: what bench-jn accuracy takes; several as A,B or A B, after BUNDLE.
    output
        A new folder: the bundle is copied there first, and the copy changed. Packaged bundles need it.
    gate_data
        Sequences to judge by. Without it every fifth of DATA is held back for that.
    options
        What precision, and how.
    workers
        Who follows the sequences.
    json
        Print the figures as JSON.
    """
    from jntrt.bench.sequences.data_option import parse_data
    from jntrt.calib.calibrate import calibrate as calibrate_bundle
    from jntrt.runtime.bundle import open_bundle

    sequences, judges = parse_data(data), parse_data(gate_data, "--gate-data") if gate_data else []
    with _Bar() as bar:
        changed, result = calibrate_bundle(
            open_bundle(bundle), sequences, options, judges, bar.show, output, workers
        )
    if json:
        from jntrt.calib.calibration_file import gate_entry

        print_json({"bundle": str(changed.path), "precision": options.precision, "gate": gate_entry(result)})
    else:
        _print_verdict(changed.name, result)
    return 0


@app.command(name="check-build")
def check_build(
    bundle: str,
    *,
    sm: str = "75,86,89,120",
    precision: str = "",
    json: bool = False,
) -> int:
    """Build BUNDLE's graphs with TensorRT-RTX, without a GPU, and say what came out.

    Parameters
    ----------
    bundle
        The bundle's folder, or a packaged bundle's name.
    sm
        Compute capabilities, such as 75,86,89,120.
    precision
        Precisions of the bundle, separated by commas. Default: fp16 and int8-fp16 where it has them.
    json
        Print JSON.
    """
    from jntrt.calib.check_build import check_build as check
    from jntrt.runtime.bundle import open_bundle

    architectures = [str(number) for number in parse_integers(sm, "--sm")]
    with _Bar() as bar:
        builds = check(
            open_bundle(bundle),
            architectures,
            parse_words(precision),
            lambda what: bar.show(f"building {what}", 0, 1),
        )
    if json:
        print_json([asdict(build) for build in builds])
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{bundle}: TensorRT-RTX builds without a GPU", title_justify="left")
    for column in ("precision", "SM", "builds", "attentions fused", "in type", "layers", "MiB"):
        table.add_column(column, justify="left" if column == "precision" else "right")
    for build in builds:
        inside = f"{build.products - len(build.outside)}/{build.products}"
        fused = f"{build.attentions}/{build.attentions_total}"
        rest = (
            [fused, inside, str(build.layers), f"{build.megabytes:.0f}"] if not build.failure else ["-"] * 4
        )
        table.add_row(build.precision, build.architecture, "no" if build.failure else "yes", *rest)
    console = Console(soft_wrap=False)
    console.print(table)
    for build in builds:
        if build.failure:
            console.print(f"{build.precision} SM{build.architecture}: {build.failure}", markup=False)
        elif build.outside:
            names = ", ".join(build.outside)
            console.print(f"{build.precision} SM{build.architecture} in another type: {names}", markup=False)
    console.print("in type: Linears and convolutions that read the precision's own type (float16, int8)")
    return 0


@app.command
def redetect(
    bundle: str,
    *,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    backend: str = "auto",
    threads: int | None = None,
    json: bool = False,
) -> int:
    """Measure from which likeness a search for a lost target may accept what it finds; BUNDLE keeps it.

    The threshold that finds most of the targets that come back, with at most 5 % of what it finds wrong and
    false alarms in at most 2 % of the clips that no target leaves. Where none is so good the exit code is 3.

    Parameters
    ----------
    bundle
        The bundle's folder, or a packaged bundle's name.
    data
        Annotated clips, some with absences; train-jn sequences --scenes vanishing, staying draws some.
    output
        A new folder: the bundle is copied there first, and the copy changed. Packaged bundles need it.
    backend
        The engine.
    threads
        CPU threads of the engine. Default: the engine's own choice.
    json
        Print the figures as JSON.
    """
    from jntrt.bench.sequences.clips import load_clips
    from jntrt.bench.sequences.data_option import parse_data
    from jntrt.calib.calibrate import check_changeable
    from jntrt.calib.redetect import calibrate_redetection
    from jntrt.runtime.bundle import open_bundle

    opened = open_bundle(bundle)
    check_changeable(opened, output)
    with _Bar() as bar:
        changed, figures = calibrate_redetection(
            opened, load_clips(parse_data(data)), output, backend, threads, bar.show
        )
    if json:
        print_json({"bundle": str(changed.path), "threshold": changed.redetect_threshold})
        return 0
    for threshold, measured in figures.items():
        mark = "  taken" if threshold == changed.redetect_threshold else ""
        print(
            f"{threshold:.2f}: found {measured.found:.2f}, wrong {measured.wrong:.2f},"
            f" false alarms {measured.false_alarms:.2f}{mark}"
        )
    return 0


def main() -> None:
    """Entry point of `calib-jn`."""
    sys.exit(run(app))


class _Bar:
    """A progress bar on stderr; nothing where that is no terminal."""

    def __init__(self) -> None:
        from jntrt.runtime.command.progress import progress_bar

        self._bar = progress_bar()
        self._tasks: dict[str, int] = {}

    def show(self, what: str, done: int, total: int) -> None:
        """`what` is done so far, of `total`; 0 begins it anew."""
        if what not in self._tasks:
            self._tasks[what] = int(self._bar.add_task(what, total=total))
        self._bar.update(self._tasks[what], completed=done, total=total)  # type: ignore[arg-type]

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def _print_verdict(name: str, result: Calibrated) -> None:
    from rich.console import Console
    from rich.table import Table

    verdict = result.verdict
    crops, sequences, thresholds = verdict.crops, verdict.sequences, verdict.thresholds
    said = "passed its gate" if verdict.passed else "FAILED its gate (written by --force)"
    table = Table(title=f"{name} {result.candidate.precision}: {said}", title_justify="left")
    for column in ("against fp32", "measured", "must be"):
        table.add_column(column, justify="left" if column == "against fp32" else "right")
    table.add_row(
        f"median IoU, {crops.crops} crops", f"{crops.median_iou:.4f}", f"≥ {thresholds.median_iou:g}"
    )
    table.add_row("5th percentile of IoU", f"{crops.p5_iou:.4f}", "")
    table.add_row("score difference, mean / largest", f"{crops.score_mean:.4f} / {crops.score_max:.4f}", "")
    for kept, share in crops.kept.items():
        table.add_row(f"same tokens in {kept}", f"{share:.1%}", "")
    if sequences is not None:
        interval = ""
        if sequences.low is not None and sequences.high is not None:
            interval = f" ({sequences.low:+.4f} … {sequences.high:+.4f})"
        label = f"AO difference, {sequences.sequences} sequences (95 %)"
        table.add_row(label, f"{sequences.difference:+.4f}{interval}", f"± {thresholds.ao:g}")
        table.add_row("AO fp32 / this", f"{sequences.ao_fp32:.4f} / {sequences.ao:.4f}", "")
    if result.ranges:
        table.add_row("Linear MACs in int8", f"{result.share:.1%}", "≥ 60%")
        if result.kept:
            table.add_row("left out of int8", ", ".join(result.kept), "")
    console = Console()
    console.print(table)
    console.print(f"judged in: {verdict.engine}")
