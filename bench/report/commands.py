"""bench-jn report, layers, compare and list."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from jntrt.runtime.command.console import print_json
from jntrt.runtime.command.lists import parse_words
from jntrt.runtime.errors import UserError

REGRESSION = 4  # exit code


def add_reports(app: App) -> None:
    """Make `report`, `layers`, `compare` and `list` sub-commands of `app`."""
    for command in (report, layers, compare):
        app.command(command)
    app.command(list_saved, name="list")


def report(
    *bundles: str,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    backend: str = "auto",
    precision: str = "",
    threads: int | None = None,
    baseline: str = "static,ncc",
    max_frames: int | None = None,
    tracker_seconds: float | None = None,
    video: Path | None = None,
    init: str = "",
    rounds: int = 20,
    starts: int = 1,
    seconds: float = 0.25,
    sections: str = "",
    save: Path = Path("bench-results"),
    json: bool = False,
) -> None:
    """Measure everything about bundles and write it as one HTML page, Markdown and JSON.

    The page needs no network and no script. JSON is the authority, the others are rendered from it; JSON
    files of earlier runs in place of bundles are joined and rendered again.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones (default: the first), or report.json files.
    data
        Annotated sequences as in `bench-jn accuracy`, for accuracy beside speed; bundles stand before it.
    output
        The page, REPORT.html; REPORT.md and REPORT.json go beside it. All three are saved anyway (--save).
    backend
        Engines, separated by commas: auto, onnxruntime, openvino, tensorrt …
    precision
        Precisions, separated by commas (default: all that a bundle has and this machine runs).
    threads
        CPU threads of an engine (default: the engine's own choice).
    baseline
        Trackers without a network in the accuracy section, separated by commas; all, or none.
    max_frames
        Use the first frames of each clip alone.
    tracker_seconds
        How long each bundle may about take with --data: a slow one sees the first frames of each clip alone,
        and its row says how many.
    video
        Video to time on (default: a 1080p clip drawn for the purpose).
    init
        The target in that video, x,y,w,h in pixels (default: an eighth of the frame, in its middle).
    rounds
        How often every engine is called.
    starts
        In how many processes, one after the other, each engine runs its rounds. compare finds small changes
        from 4 on, 8 is better.
    seconds
        Of one call: it takes as many frames as fit, 3 to 200.
    sections
        What to measure, separated by commas (default: all): latency, video, threads, targets, cost,
        accuracy, layers, rtx2080ti.
    save
        The folder of saved runs; each goes into a folder of its own, named by the time.
    json
        Print the report as JSON.
    """
    from jntrt.bench.report.documents import dated, join, read, write

    if output is not None and output.suffix.lower() != ".html":
        raise UserError(f"-o {output}: name a page, REPORT.html; .md and .json are written beside it")
    if bundles and all(word.endswith(".json") for word in bundles):
        document = join([read(Path(word)) for word in bundles])
    else:
        capped = (max_frames, tracker_seconds)
        asked = (
            backend,
            precision,
            threads,
            baseline,
            *capped,
            video,
            init,
            rounds,
            starts,
            seconds,
            sections,
        )
        document = _measured(bundles, data, *asked)
    written = write(document, dated(save) / "report")
    if output is not None:
        written += write(document, output.with_suffix(""))
    if json:
        print_json(document)
    for file in written:
        print(file, file=sys.stderr if json else sys.stdout)


def layers(
    *bundles: str,
    backend: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    all: bool = False,
    json: bool = False,
) -> None:
    """Time, products and bytes of every layer, and how near each comes to what this machine can do.

    The machine's peaks are measured first; a GPU's are its data sheet's. ONNX Runtime on the CPU, OpenVINO,
    TensorRT and TensorRT-RTX, which build an engine for it each time.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones (default: the first).
    backend
        Engines, separated by commas: auto, onnxruntime, openvino, tensorrt, tensorrt-rtx.
    precision
        Precisions of the bundle, separated by commas.
    threads
        CPU threads of an engine, and of the peaks (default: all cores).
    all
        Print every layer, not the blocks and the worst ten alone.
    json
        Print everything as JSON instead of tables.
    """
    from dataclasses import asdict

    from rich.console import Console

    from jntrt.bench.bundles import open_or_default
    from jntrt.bench.latency.timed_engines import plan_engines, timed_clip
    from jntrt.bench.layers import profile_engines
    from jntrt.bench.layers.tables import print_layers
    from jntrt.runtime.command.progress import progress_bar

    with timed_clip() as (source, box), progress_bar() as bar:
        engines = plan_engines(
            open_or_default(bundles),
            backends=parse_words(backend),
            precisions=parse_words(precision),
            threads=[threads],
            against=(),
            source=source,
            box=box,
        )
        task = bar.add_task("starting", total=len(engines) + 2)
        peaks, found = profile_engines(
            engines, threads, lambda words: bar.update(task, advance=1, description=words)
        )
    if json:
        print_json({"peaks": asdict(peaks), "engines": found})
    else:
        print_layers(peaks, found, Console(width=None if all else 80), every=all)


def compare(old: Path, new: Path, /, *, tolerance: float = 0.025, json: bool = False) -> int:
    """What became slower or faster between two reports; exit code 4 where something became slower.

    Rounds are tested, each over a fixed product that was timed around it. Takes runs that bench-jn report,
    latency or pipeline has saved.

    Parameters
    ----------
    old
        A report.json, or a saved folder.
    new
        Another, of the same bundles.
    tolerance
        By how much a stage may be slower: 0.025 is 2.5 %, half of what 8 starts find.
    json
        Print the differences as JSON.
    """
    from rich.console import Console

    from jntrt.bench.report.compare import compare as compared
    from jntrt.bench.report.compare import print_changes, regressions, to_dict
    from jntrt.bench.report.documents import read

    if not 0 <= tolerance < 10:
        raise UserError(f"--tolerance {tolerance:g}: say a share from 0 on, 0.025 for 2.5 %")
    changes = compared(read(old), read(new), tolerance)
    if json:
        print_json(to_dict(changes, tolerance))
    else:
        print_changes(changes, Console(width=100))
    slower = regressions(changes)
    for change in slower:
        print(f"slower: {change.label} {change.stage}, {change.ratio - 1:.1%}", file=sys.stderr)
    return REGRESSION if slower else 0


def list_saved(*, save: Path = Path("bench-results"), json: bool = False) -> None:
    """List the runs that report, latency and pipeline have saved.

    Parameters
    ----------
    save
        The folder of saved runs.
    json
        Print the list as JSON.
    """
    from jntrt.bench.report.documents import saved
    from jntrt.bench.report.shown.words import counted

    rows = saved(save)
    if json:
        print_json(rows)
        return
    if not rows:
        print(f"{save}: nothing saved; bench-jn report, latency and pipeline save there")
    for row in rows:
        if "wrong" in row:
            print(f"{row['folder']}  {row['wrong']}")
        else:
            words = [f"{counted(row['engines'], 'engine')}, {row['quiet']} quiet"] * bool(row["engines"])
            words += [counted(row["commands"], "whole command")] * bool(row["commands"])
            words += [f"{row['seconds']:.0f} s"]
            print(f"{row['folder']}  {', '.join(row['bundles'])}  {', '.join(words)}")


def _measured(
    bundles: tuple[str, ...],
    data: tuple[str, ...],
    backend: str,
    precision: str,
    threads: int | None,
    baseline: str,
    max_frames: int | None,
    tracker_seconds: float | None,
    video: Path | None,
    init: str,
    rounds: int,
    starts: int,
    seconds: float,
    sections: str,
) -> dict[str, object]:
    from jntrt.bench.accuracy.baselines import baseline_names
    from jntrt.bench.bundles import open_or_default
    from jntrt.bench.latency.timed_engines import timed_clip
    from jntrt.bench.report.measured.collect import SECTIONS, Plan, collect, command_words
    from jntrt.bench.sequences.data_option import parse_data
    from jntrt.runtime.command.progress import progress_bar

    asked = parse_words(sections) or list(SECTIONS)
    for name in asked:
        if name not in SECTIONS:
            raise UserError(f"--sections {name}: there are {', '.join(SECTIONS)}")
    if not 1 <= starts <= rounds:
        raise UserError(f"--starts {starts}: from 1 to as many as there are --rounds ({rounds})")
    if rounds < 2 or not seconds > 0 or (max_frames is not None and max_frames < 2):
        raise UserError("--rounds and --max-frames have to be 2 or more, --seconds above 0")
    if tracker_seconds is not None and not tracker_seconds > 0:
        raise UserError(f"--tracker-seconds {tracker_seconds:g}: give seconds above 0")
    names = {"all": list(baseline_names()), "none": []}.get(baseline, parse_words(baseline))
    with timed_clip(video, init) as (source, box):
        plan = Plan(
            bundles=tuple(open_or_default(bundles)),
            source=source,
            box=box,
            drawn=video is None,
            backends=tuple(parse_words(backend)),
            precisions=tuple(parse_words(precision)),
            threads=threads,
            rounds=rounds,
            starts=starts,
            seconds=seconds,
            sections=tuple(asked),
            data=tuple(parse_data(data)) if data else (),
            max_frames=max_frames,
            tracker_seconds=tracker_seconds,
            baselines=tuple(names),
        )
        with progress_bar() as bar:
            task = bar.add_task("starting", total=None)
            return collect(plan, command_words(), lambda words: bar.update(task, description=words))
