"""bench-jn submit: results for a benchmark's own server or toolkit."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from jntrt.bench.sequences.workers.options import ALONE, Workers


def add_submit(app: App) -> None:
    """Add the sub-command to bench-jn."""
    app.command(submit)


def submit(
    bundle: str,
    *,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    benchmark: str,
    output: Annotated[Path, Parameter(alias="-o")],
    backend: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    out: Path = Path("accuracy-results"),
    workers: Annotated[Workers, Parameter(name="*")] = ALONE,
) -> None:
    """Track a benchmark's sequences and write what its server or toolkit takes.

    The first box is enough. Result files below --out are those of `accuracy`: what is there is not run again,
    and one run serves several benchmarks.

    Parameters
    ----------
    bundle
        The bundle's folder, or a packaged bundle's name.
    data
        Sequences, as for `accuracy`.
    benchmark
        got10k (a zip for its server), trackingnet (a zip), lasot, otb, uav123 or nfs (a folder, or a zip).
    output
        The new file or folder.
    backend
        auto, onnxruntime, openvino, tensorrt …
    precision
        One of the bundle's: fp32, fp16, int8.
    threads
        CPU threads of the engine (default: the engine's own choice; with --jobs and --ray 1).
    out
        Folder for result files.
    workers
        Who follows the clips.
    """
    from jntrt.bench.accuracy.contestants import bundle_contestant
    from jntrt.bench.accuracy.submission import check_output, write_submission
    from jntrt.bench.sequences.clips import load_clips
    from jntrt.bench.sequences.data_option import parse_data
    from jntrt.bench.sequences.evaluate import all_runs
    from jntrt.runtime.bundle import open_bundle
    from jntrt.runtime.command.progress import progress_bar

    check_output(benchmark, output)
    clips = load_clips(parse_data(data))
    team = workers.team(threads)
    contestant = bundle_contestant(open_bundle(bundle), backend, precision, team.threads if team else threads)
    with progress_bar() as bar:
        task = bar.add_task(contestant.name, total=sum(len(clip) for clip in clips))
        runs = all_runs(contestant, clips, out, lambda done: bar.advance(task, done), team)
    files = write_submission(benchmark, clips, runs, output)
    print(f"{output}: {files} files of {len(clips)} sequences")
