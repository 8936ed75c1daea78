"""bench-jn: how fast and how accurate trackers are."""

import sys
from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jntrt.bench.projection.command import add_project
from jntrt.bench.report.commands import add_reports
from jntrt.bench.sequences.workers.options import ALONE, Workers
from jntrt.bench.submit_cli import add_submit
from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.command.console import print_json
from jntrt.runtime.command.lists import parse_integers, parse_words
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.doctor_cli import add_doctor

app = new_app("bench-jn", "How fast and how accurate trackers are: figures of bundles, beside others'.")
add_doctor(app)
add_project(app)
add_submit(app)
add_reports(app)


@app.command
def accuracy(
    *bundles: str,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    baseline: str = "",
    plain: Path | None = None,
    out: Path = Path("accuracy-results"),
    workers: Annotated[Workers, Parameter(name="*")] = ALONE,
    json: bool = False,
) -> None:
    """Track annotated sequences and measure AO, SR, success AUC, precision and presence.

    Result files are written below --out in the layout of the GOT-10k toolkit, with report.json and
    success.png; what is there already is not run again.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones. Every one runs with every --backend and --precision.
    data
        A sequence folder (GOT-10k, OTB, LaSOT, TrackingNet), an annotated video, a folder of these, or a text
        file that lists them; several as A,B or A B, which is why bundles stand before it.
    backend
        Engines, separated by commas: auto, onnxruntime, openvino, tensorrt …
    precision
        Precisions, separated by commas: auto (fp16 on a GPU, else fp32), fp32, fp16, bf16, int8.
    threads
        CPU threads of the engine (default: the engine's own choice; with --jobs and --ray 1).
    baseline
        Trackers without a network, separated by commas: static, ncc, csrt, kcf, mil, mosse, medianflow
        (those after ncc as far as the installed OpenCV has them), or all.
    plain
        A checkpoint: its plain form in PyTorch runs too, with the first bundle's recipe (the bundle has to be
        made from it). Needs the export extra.
    out
        Folder for result files.
    workers
        Who follows the clips.
    json
        Print the report as JSON instead of tables.
    """
    from rich.console import Console

    from jntrt.bench.accuracy.baselines import baseline as baseline_of
    from jntrt.bench.accuracy.baselines import baseline_names
    from jntrt.bench.accuracy.contestants import bundle_contestant, plain_contestant
    from jntrt.bench.accuracy.report import plot_success, print_tables, to_dict
    from jntrt.bench.bundles import open_bundles
    from jntrt.bench.machine import describe_machine
    from jntrt.bench.sequences.clips import load_clips
    from jntrt.bench.sequences.data_option import parse_data
    from jntrt.bench.sequences.evaluate import evaluate
    from jntrt.runtime.command.files import replacing
    from jntrt.runtime.command.progress import progress_bar

    sequences = load_clips(parse_data(data))
    opened = open_bundles(bundles)
    team = workers.team(threads)
    threads = team.threads if team else threads
    contestants = [
        bundle_contestant(bundle, engine, kind, threads)
        for bundle in opened
        for engine in parse_words(backend)
        for kind in parse_words(precision)
    ]
    names = baseline_names() if baseline == "all" else parse_words(baseline)
    if plain is not None:
        if not bundles:
            raise UserError("--plain needs the bundle that was made from the checkpoint")
        contestants.append(plain_contestant(opened[0], plain, threads))
    contestants += [baseline_of(name) for name in names]
    if not contestants:
        raise UserError("nothing to run: give a bundle, or --baseline static,ncc")
    _distinct([contestant.name for contestant in contestants])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # before hours of tracking
        raise UserError(f"{out}: cannot be made ({error.strerror}); name another folder by --out") from None
    evaluations = []
    frames = sum(len(sequence) for sequence in sequences)
    with progress_bar() as bar:
        for contestant in contestants:
            task = bar.add_task(contestant.name, total=frames)
            evaluations.append(
                evaluate(contestant, sequences, out, lambda done, task=task: bar.advance(task, done), team)  # type: ignore[misc]
            )
    report = to_dict(evaluations, describe_machine())
    try:
        with replacing(out / "report.json") as stream:
            stream.write(dumps(report, indent=1) + "\n")
        plot_success(evaluations, out / "success.png")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); name another by --out") from None
    if json:
        print_json(report)
    else:
        print_tables(evaluations, Console(width=80))
        print(f"result files, report.json, success.png: {out}")


@app.command
def redetect(
    *bundles: str,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    threshold: float | None = None,
    windows: int | None = None,
    off: bool = False,
    backend: str = "auto",
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Targets that go and come back: how many are found again within 2 s, how many wrongly, and at what cost.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones.
    data
        Annotated clips, some with absences: train-jn sequences --scenes vanishing, staying draws some.
    threshold
        In place of the bundle's own.
    windows
        Windows that the search looks at in a frame, on every machine. Default: as many as 33 ms allow.
    off
        Track without the search, to compare with.
    backend
        The engine.
    threads
        CPU threads of the engine (default: the engine's own choice).
    json
        Print JSON.
    """
    from dataclasses import asdict

    from jntrt.bench.bundles import open_bundles
    from jntrt.bench.sequences.clips import load_clips
    from jntrt.bench.sequences.data_option import parse_data
    from jntrt.bench.sequences.redetection import finite, follow_clip, lines, redetected
    from jntrt.runtime.command.progress import progress_bar
    from jntrt.runtime.redetect import Redetection
    from jntrt.runtime.tracker import Tracker

    if not bundles:
        raise UserError("nothing to run: give a bundle")
    clips = load_clips(parse_data(data))
    search = False if off else Redetection(threshold, windows=windows)
    figures = {}
    with progress_bar() as bar:
        for bundle in open_bundles(bundles):
            task = bar.add_task(bundle.name, total=sum(len(clip) - 1 for clip in clips))
            with Tracker.from_bundle(bundle, backend, threads=threads, redetect=search) as tracker:
                followed = [
                    follow_clip(clip, tracker, lambda task=task: bar.advance(task))  # type: ignore[misc]
                    for clip in clips
                ]
            figures[bundle.name] = redetected(followed)
    if json:
        print_json({name: finite(asdict(measured)) for name, measured in figures.items()})
    else:
        print("\n".join(lines(figures)))


@app.command
def latency(
    *bundles: str,
    backend: str = "auto",
    precision: str = "auto",
    threads: str = "",
    spin: bool = False,
    against: str = "",
    video: Path | None = None,
    init: str = "",
    rounds: int = 10,
    frames: int = 20,
    remember: bool = False,
    json: bool = False,
) -> None:
    """Time a frame stage by stage: decode, crop, network, box, and the whole.

    Every bundle runs with every backend, precision and thread count, each in a process of its own; they are
    called in turn. The template graph runs once at init and is in no figure.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones (default: nanotrack-v3).
    backend
        Engines, separated by commas: auto, onnxruntime, openvino, tensorrt …
    precision
        Precisions, separated by commas: auto (fp16 on a GPU, else fp32), fp32, fp16, bf16, int8.
    threads
        CPU threads of an engine, separated by commas (default: the engine's own choice).
    spin
        Let ONNX Runtime's idle threads turn until the next call, as it does by itself. Here nothing needs the
        core; beside a decoder it does, so that trtrun and Tracker let them sleep.
    against
        The plain form to compare with, rebuilt with random weights: eager (PyTorch), naive (a bare
        torch.onnx.export in ONNX Runtime), or both with a comma. Needs the export extra.
    video
        Video to read (default: a 1080p clip drawn for the purpose).
    init
        The target in that video, x,y,w,h in pixels (default: an eighth of the frame, in its middle).
    rounds
        How often every engine is called.
    frames
        Timed frames of one call.
    remember
        Let --backend auto take each bundle's fastest engine on this machine from now on, of the two or more
        that are timed here. It is kept in a file, which is named; without it auto is as before.
    json
        Print everything as JSON instead of tables.
    """
    import tempfile

    from rich.console import Console

    from jntrt.bench.bundles import open_bundles
    from jntrt.bench.latency.measure import measure_latency
    from jntrt.bench.latency.report import fastest, print_report, to_dict
    from jntrt.bench.latency.timed_engines import drawn_clip, plan_engines, video_box
    from jntrt.bench.machine import describe_machine
    from jntrt.runtime.bundle import default_bundle
    from jntrt.runtime.command.progress import progress_bar
    from jntrt.runtime.engines.remembered import remember as remember_engines

    if remember and (len(set(parse_words(backend))) < 2 or "auto" in parse_words(backend)):
        raise UserError("--remember: name the engines to choose from: --backend onnxruntime,openvino")
    if min(rounds, frames) < 1:
        raise UserError("--rounds and --frames have to be 1 or more")
    opened = open_bundles(bundles) or [default_bundle()]
    with tempfile.TemporaryDirectory(prefix="jntrt-bench-") as folder:
        if init and video is None:
            raise UserError("--init: names a target in --video, which is not given")
        source, box = drawn_clip(Path(folder)) if video is None else video_box(video, init)
        engines = plan_engines(
            opened,
            backends=parse_words(backend),
            precisions=parse_words(precision),
            threads=[int(count) for count in parse_integers(threads, "--threads")] if threads else [None],
            against=parse_words(against),
            spin=spin,
            source=source,
            box=box,
        )
        with progress_bar() as bar:
            task = bar.add_task("starting", total=len(engines) * (1 + rounds))
            measured = measure_latency(
                engines,
                rounds=rounds,
                frames=frames,
                on_step=lambda label: bar.update(task, advance=1, description=label),
            )
    by_path = {str(bundle.path): bundle for bundle in opened}
    if json:
        print_json(to_dict(measured, by_path, describe_machine()))
    else:
        machine = describe_machine()
        print(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}")
        print_report(measured, by_path, Console(width=80))
    for bundle in opened if remember else ():
        taken = fastest(measured, bundle)
        words = ", ".join(f"{name} for {kind}" for kind, name in taken.items())
        print(
            f"auto now takes {words} with {bundle.name}: {remember_engines(bundle, taken)}", file=sys.stderr
        )


@app.command
def pipeline(
    *bundles: str,
    video: Path | None = None,
    init: str = "",
    backend: str = "auto",
    precision: str = "auto",
    threads: str = "",
    rounds: int = 3,
    json: bool = False,
) -> None:
    """Time the whole command: trtrun from start to end, decoding and writing beside the tracker.

    `latency` has nothing beside it; here the engine's threads share the machine with FFmpeg's.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones (default: the first). Every one runs with every --backend and
        --precision.
    video
        Video to read (default: a 1080p clip drawn for the purpose).
    init
        The target in that video, x,y,w,h in pixels (default: an eighth of the frame, in its middle).
    backend
        Engines, separated by commas: auto, onnxruntime, openvino, tensorrt …
    precision
        Precisions, separated by commas: auto (fp16 on a GPU, else fp32), fp32, fp16, bf16, int8.
    threads
        CPU threads of an engine, separated by commas (default: the engine's own choice).
    rounds
        How often each runs; the figures are medians.
    json
        Print everything as JSON instead of a table.
    """
    import tempfile
    from dataclasses import asdict

    from rich.console import Console

    from jntrt.bench.bundles import open_bundles
    from jntrt.bench.latency.timed_engines import drawn_clip, plan_engines, video_box
    from jntrt.bench.latency.whole_command import print_whole, time_whole
    from jntrt.bench.machine import describe_machine
    from jntrt.runtime.bundle import default_bundle

    if rounds < 1:
        raise UserError("--rounds has to be 1 or more")
    if init and video is None:
        raise UserError("--init: names a target in --video, which is not given")
    with tempfile.TemporaryDirectory(prefix="jntrt-bench-") as folder:
        source, box = drawn_clip(Path(folder)) if video is None else video_box(video, init)
        engines = plan_engines(
            open_bundles(bundles) or [default_bundle()],
            backends=parse_words(backend),
            precisions=parse_words(precision),
            threads=list(parse_integers(threads, "--threads")) if threads else [None],
            against=(),
            source=source,
            box=box,
        )
        timings = time_whole(engines, rounds=rounds)
    if json:
        told = [asdict(timing) | timing.summary() for timing in timings]
        print_json({"machine": describe_machine(), "engines": told})
    else:
        print_whole(timings, Console(width=80))


def _distinct(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"{name} twice: results are named by bundle, backend and precision; give each once"
            )


def main() -> None:
    """Entry point of `bench-jn`."""
    raise SystemExit(run(app))
