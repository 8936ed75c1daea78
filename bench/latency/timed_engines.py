"""What a latency run times: which engines, on which video, with the target where."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jntrt.bench.latency.drawn_video import BOX, FRAMES, write_clip
from jntrt.bench.latency.worker import TimedEngine
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.lists import parse_box
from jntrt.runtime.engines.auto import resolve
from jntrt.runtime.engines.precision import AUTO, Precision, find_precision
from jntrt.runtime.errors import UserError

Box = tuple[float, float, float, float]
PLAIN = ("eager", "naive")


@contextmanager
def timed_clip(video: Path | None = None, init: str = "", frames: int = FRAMES) -> Iterator[tuple[str, Box]]:
    """The video to time on and the target in it: `video`, else a clip of `frames` that is drawn and removed.

    init: x,y,w,h in pixels of `video`; empty: the middle of its first frame. UserError without a video.
    """
    if video is not None:
        yield video_box(video, init)
        return
    if init:
        raise UserError("--init: names a target in --video, which is not given")
    with TemporaryDirectory(prefix="jntrt-bench-") as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, frames)
        yield str(path), BOX


def video_box(video: Path, init: str) -> tuple[str, Box]:
    """The video's path and the target in it: `init` as x,y,w,h, or the middle of its first frame."""
    from jntrt.runtime.video.sources import frames

    with frames(video, ahead=0) as reader:
        first = next(reader, None)
    if first is None:
        raise UserError(f"{video}: no frame in it")
    if init:
        return str(video), parse_box(init, "--init")
    height, width = first.shape[:2]
    return str(video), (width * 7 / 16, height * 7 / 16, width / 8, height / 8)


def plan_engines(
    bundles: Sequence[Bundle],
    *,
    backends: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int | None],
    against: Iterable[str],
    spin: bool = False,
    source: str,
    box: Box,
) -> list[TimedEngine]:
    """All engines to time: every bundle × backend × precision × thread count, then the plain forms.

    UserError for a plain form of another name, and where two engines would have the same label.
    """
    engines = []
    for bundle in bundles:
        for count in threads:
            suffix = f", {count} threads" if len(threads) > 1 else ""
            for backend in backends:
                for word in precisions:
                    precision = _named(bundle, word, backend)
                    failed = bundle.failed_gate(precision.stored)
                    said = " (failed its gate)" if failed else ""
                    label = f"{bundle.name} {backend} {precision}{said}{suffix}"
                    engines.append(
                        TimedEngine(
                            label,
                            str(bundle.path),
                            source,
                            box,
                            backend=backend,
                            precision=precision.name,
                            threads=count,
                            spin=spin,
                        )
                    )
    for kind in against:
        if kind not in PLAIN:
            raise UserError(f"--against {kind}: there are {' and '.join(PLAIN)}")
        for bundle in bundles:
            for count in threads:
                suffix = f", {count} threads" if len(threads) > 1 else ""
                label = f"{bundle.name} {kind}{suffix}"
                engines.append(
                    TimedEngine(label, str(bundle.path), source, box, kind=kind, threads=count, spin=spin)
                )
    labels = [engine.label for engine in engines]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"{label}: twice in this run; give bundles of different names, each once")
    return engines


def _named(bundle: Bundle, word: str, backend: str) -> Precision:
    """A precision by name; for `auto` the one that it takes, so that a figure says what it is of."""
    return resolve(bundle, word, backend).precision if word == AUTO else find_precision(word)
