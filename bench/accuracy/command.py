"""bench-jn accuracy: AO and its like of bundles and classical trackers."""

from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from jntrt.bench.sequences.workers.options import ALONE, Workers
from jntrt.runtime.command.console import print_json
from jntrt.runtime.command.lists import parse_words
from jntrt.runtime.errors import UserError


def add_accuracy(app: App) -> None:
    """Make `accuracy` a sub-command of `app`."""
    app.command(accuracy)


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


def _distinct(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"{name} twice: results are named by bundle, backend and precision; give each once"
            )
