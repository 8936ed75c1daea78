"""bench-jn redetect: what a search for a lost target finds, and at what cost."""

from typing import Annotated

from cyclopts import App, Parameter

from jntrt.runtime.command.console import print_json
from jntrt.runtime.errors import UserError


def add_redetect(app: App) -> None:
    """Make `redetect` a sub-command of `app`."""
    app.command(redetect)


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
