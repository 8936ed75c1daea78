"""bench-jn latency and pipeline: a frame stage by stage, the whole command; saved as `report` saves."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from jntrt.runtime.command.console import print_json
from jntrt.runtime.command.lists import parse_integers, parse_words
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.bench.latency.worker import TimedEngine
    from jntrt.runtime.bundle import Bundle


def add_timings(app: App) -> None:
    """Make `latency` and `pipeline` sub-commands of `app`."""
    app.command(latency)
    app.command(pipeline)


@dataclass(frozen=True)
class Timed:
    """What is timed, on which video, and where the run is kept.

    Parameters
    ----------
    backend
        Engines, separated by commas: auto, onnxruntime, openvino, tensorrt …
    precision
        Precisions, separated by commas: auto (fp16 on a GPU, else fp32), fp32, fp16, bf16, int8.
    threads
        CPU threads of an engine, separated by commas (default: the engine's own choice).
    video
        Video to read (default: a 1080p clip drawn for the purpose).
    init
        The target in that video, x,y,w,h in pixels (default: an eighth of the frame, in its middle).
    save
        The folder of saved runs: bench-jn list shows them, bench-jn compare takes them.
    json
        Print everything as JSON instead of tables.
    """

    backend: str = "auto"
    precision: str = "auto"
    threads: str = ""
    video: Path | None = None
    init: str = ""
    save: Path = Path("bench-results")
    json: bool = False

    @contextmanager
    def engines(
        self, bundles: Sequence["Bundle"], frames: int, *, against: Sequence[str] = (), spin: bool = False
    ) -> Iterator[list["TimedEngine"]]:
        """Every bundle × backend × precision × thread count; `frames`: of a drawn clip. It lasts as long as
        the context."""
        from jntrt.bench.latency.timed_engines import plan_engines, timed_clip

        with timed_clip(self.video, self.init, frames) as (source, box):
            yield plan_engines(
                bundles,
                backends=parse_words(self.backend),
                precisions=parse_words(self.precision),
                threads=list(parse_integers(self.threads, "--threads")) if self.threads else [None],
                against=against,
                spin=spin,
                source=source,
                box=box,
            )

    def keep(self, sections: dict[str, Any], engines: Sequence["TimedEngine"], seconds: float) -> None:
        """Save a run as a report of these sections, and say on stderr where."""
        from jntrt.bench.report.documents import dated, write
        from jntrt.bench.report.measured.collect import command_words, new_document

        document = new_document(command_words(), self.video, engines[0].box)
        document |= sections | {"seconds": round(seconds, 1)}
        print(f"saved: {write(document, dated(self.save) / 'report')[0].parent}", file=sys.stderr)


TIMED = Timed()


def latency(
    *bundles: str,
    timed: Annotated[Timed, Parameter(name="*")] = TIMED,
    spin: bool = False,
    against: str = "",
    rounds: int = 10,
    starts: int = 1,
    frames: int = 20,
    remember: bool = False,
) -> None:
    """Time a frame stage by stage: decode, crop, network, box, and the whole.

    Every bundle runs with every backend, precision and thread count, each in a process of its own; they are
    called in turn. The template graph runs once at init and is in no figure.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones (default: nanotrack-v3).
    timed
        What is timed.
    spin
        Let ONNX Runtime's idle threads turn until the next call, as it does by itself. Here nothing needs the
        core; beside a decoder it does, so that trtrun and Tracker let them sleep.
    against
        The plain form to compare with, rebuilt with random weights: eager (PyTorch), naive (a bare
        torch.onnx.export in ONNX Runtime), or both with a comma. Needs the export extra.
    rounds
        How often every engine is called.
    starts
        In how many processes, one after the other, each engine runs its rounds. compare finds small changes
        from 4 on, 8 is better.
    frames
        Timed frames of one call.
    remember
        Let --backend auto take each bundle's fastest engine on this machine from now on, of the two or more
        that are timed here. It is kept in a file, which is named; without it auto is as before.
    """
    from time import perf_counter

    from rich.console import Console

    from jntrt.bench.bundles import open_or_default
    from jntrt.bench.latency.drawn_video import FRAMES
    from jntrt.bench.latency.measure import measure_latency
    from jntrt.bench.latency.report import fastest, print_report, to_dict
    from jntrt.bench.machine import describe_machine
    from jntrt.bench.report.measured.engines import latency_section
    from jntrt.runtime.command.progress import progress_bar
    from jntrt.runtime.engines.remembered import remember as remember_engines

    backends = parse_words(timed.backend)
    if remember and (len(set(backends)) < 2 or "auto" in backends):
        raise UserError("--remember: name the engines to choose from: --backend onnxruntime,openvino")
    if min(rounds, frames) < 1:
        raise UserError("--rounds and --frames have to be 1 or more")
    if not 1 <= starts <= rounds:
        raise UserError(f"--starts {starts}: from 1 to as many as there are --rounds ({rounds})")
    opened, begin = open_or_default(bundles), perf_counter()
    with (
        timed.engines(opened, FRAMES, against=parse_words(against), spin=spin) as engines,
        progress_bar() as bar,
    ):
        task = bar.add_task("starting", total=len(engines) * (starts + rounds))
        measured = measure_latency(
            engines,
            rounds=rounds,
            frames=frames,
            starts=starts,
            on_step=lambda label: bar.update(task, advance=1, description=label),
        )
    by_path = {str(bundle.path): bundle for bundle in opened}
    if timed.json:
        print_json(to_dict(measured, by_path, describe_machine()))
    else:
        machine = describe_machine()
        print(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}")
        print_report(measured, by_path, Console(width=80))
    timed.keep(latency_section(measured, by_path), engines, perf_counter() - begin)
    for bundle in opened if remember else ():
        taken = fastest(measured, bundle)
        words = ", ".join(f"{name} for {kind}" for kind, name in taken.items())
        print(
            f"auto now takes {words} with {bundle.name}: {remember_engines(bundle, taken)}", file=sys.stderr
        )


def pipeline(*bundles: str, timed: Annotated[Timed, Parameter(name="*")] = TIMED, rounds: int = 3) -> None:
    """Time the whole command: trtrun from start to end, decoding and writing beside the tracker.

    `latency` has nothing beside it; here the engine's threads share the machine with FFmpeg's.

    Parameters
    ----------
    bundles
        Bundle folders or names of packaged ones (default: the first). Every one runs with every --backend and
        --precision.
    timed
        What is timed.
    rounds
        How often each runs; the figures are medians. compare needs 6 or more.
    """
    from time import perf_counter

    from rich.console import Console

    from jntrt.bench.bundles import open_or_default
    from jntrt.bench.latency.whole_command import FRAMES, print_whole, time_whole, to_dict
    from jntrt.bench.machine import describe_machine

    if rounds < 1:
        raise UserError("--rounds has to be 1 or more")
    opened, begin = open_or_default(bundles), perf_counter()
    with timed.engines(opened, FRAMES) as engines:
        timings = time_whole(engines, rounds=rounds)
    told = to_dict(timings, {str(bundle.path): bundle for bundle in opened})
    if timed.json:
        print_json({"machine": describe_machine(), "engines": told})
    else:
        print_whole(timings, Console(width=80))
    timed.keep({"pipeline": told}, engines, perf_counter() - begin)
