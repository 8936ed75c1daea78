"""One engine in a process of its own: idle on a pipe, it runs when it is called.

Engines in one process disturb each other (thread pools that spin, shared allocators), so each gets its own.
"""

import logging
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.latency.reference import ReferenceProduct
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker

STAGES = ("decode", "crop", "network", "box", "frame", "whole")
START_SECONDS = 900  # a TensorRT engine is built at the first start
INITS = 5  # repetitions of a warm init


@dataclass(frozen=True)
class TimedEngine:
    """What to time: a bundle in a backend, or its plain form (`kind` eager or naive).

    spin: as in `EngineOptions`.
    source: the video to read. box: the target in every frame, x, y, w, h in pixels.
    """

    label: str
    bundle: str
    source: str
    box: tuple[float, float, float, float]
    kind: str = "bundle"
    backend: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    spin: bool = False


class Worker:
    """The parent's end: starts the process, calls it in turn, ends it. A context manager.

    `description` is the tracker's; `start` holds milliseconds: `process` (Python and imports), `open` (both
    graphs), `init` (the first), `first` (the first update), `first_box` (from the process's start to the
    first box, two frames decoded on the way), `template` (a warm init: crop and template graph).
    """

    def __init__(self, engine: TimedEngine) -> None:
        """Start the engine and wait until it is ready; UserError with its one line when it cannot."""
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(child, asdict(engine), time.perf_counter()), daemon=True
        )
        # Ctrl-C is ours alone, but goes to the child as well, before its first line could ignore it.
        heeding = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, heeding)
        child.close()
        try:
            ready = self._receive(START_SECONDS)
        except BaseException:
            self.close()
            raise
        self.description: dict[str, Any] = ready[0]
        self.start: dict[str, float] = ready[1]

    def run(self, frames: int, timeout: float = 600) -> NDArray[np.float64]:
        """Milliseconds of `frames` frames, frames×7: columns as `STAGES`, then the reference product's after
        each; one untimed frame goes before."""
        try:
            self._pipe.send(frames)
        except BrokenPipeError:
            raise self._gone() from None
        return np.asarray(self._receive(timeout), dtype=np.float64)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _receive(self, timeout: float) -> Any:
        if not self._pipe.poll(timeout):
            raise UserError(f"{self.engine.label}: no answer within {timeout:.0f} s")
        try:
            kind, content = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._gone() from None
        if kind == "error":
            raise UserError(f"{self.engine.label}: {content}")
        return content

    def _gone(self) -> UserError:
        self._process.join(timeout=5)
        code = self._process.exitcode
        return UserError(f"{self.engine.label}: its process ended by itself (exit code {code})")


def open_engine(engine: TimedEngine) -> Tracker:
    """The tracker that an engine's description asks for."""
    bundle = Bundle.open(engine.bundle)
    if engine.kind == "bundle":
        options = EngineOptions(threads=engine.threads, spin=engine.spin)
        return Tracker.from_bundle(
            bundle, backend=engine.backend, precision=engine.precision, options=options
        )
    from jntrt.bench.latency.plain_network import plain_tracker

    return plain_tracker(bundle, engine.kind, engine.threads, spin=engine.spin)


def _serve(pipe: Connection, fields: dict[str, Any], begin: float) -> None:
    marks = [begin, time.perf_counter()]  # one clock for all processes
    logging.basicConfig(level=logging.ERROR)
    engine = TimedEngine(**fields)
    try:
        tracker = open_engine(engine)
        marks.append(time.perf_counter())
        frames = _endless(engine.source)
        boxes = np.array([engine.box] * tracker.bundle.batch)
        first, second = next(frames)[0], next(frames)[0]
        decoded = time.perf_counter()
        tracker.init(first, boxes)
        marks.append(time.perf_counter())
        tracker.update(second)
        marks.append(time.perf_counter())
        names = ("process", "open", "init", "first")
        start = {name: (b - a) * 1e3 for name, a, b in zip(names, marks, marks[1:], strict=False)}
        start |= {"init": (marks[3] - decoded) * 1e3, "first_box": (marks[-1] - begin) * 1e3}
        start["template"] = _init_ms(tracker, first, boxes)
        product = ReferenceProduct()
        pipe.send(("ready", (tracker.describe(), start)))
        while True:
            count = pipe.recv()
            _timed(tracker, frames, boxes, product)
            pipe.send(("times", [_timed(tracker, frames, boxes, product) for _ in range(count)]))
    except UserError as error:
        pipe.send(("error", " ".join(str(error).split())))
    except ImportError as error:
        from jntrt.runtime.command.app import missing_extra

        pipe.send(("error", missing_extra(error, "bench-jn") or str(error)))
    except (EOFError, BrokenPipeError):
        return


def _init_ms(tracker: Tracker, frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> float:
    """The median of `INITS` times."""
    times = []
    for _ in range(INITS):
        begin = time.perf_counter()
        tracker.init(frame, boxes)
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def _timed(
    tracker: Tracker,
    frames: Iterator[tuple[NDArray[np.uint8], float]],
    boxes: NDArray[np.float64],
    product: ReferenceProduct,
) -> tuple[float, ...]:
    frame, decode = next(frames)
    tracker.state = boxes  # every engine crops the same pixels, whatever its network says
    begin = time.perf_counter()
    tracker.update(frame)
    update = (time.perf_counter() - begin) * 1e3
    stages = tracker.stage_ms
    times = (decode, stages["crop"], stages["network"], stages["box"], update, decode + update)
    return *times, product.milliseconds()


def _endless(source: str) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Frames of the video and their milliseconds of decoding, over and over; opening is not in the times."""
    from jntrt.runtime.video.sources import frames

    while True:
        count = 0
        with frames(Path(source), ahead=0) as reader:
            while True:
                begin = time.perf_counter()
                frame = next(reader, None)
                spent = (time.perf_counter() - begin) * 1e3
                if frame is None:
                    break
                count += 1
                yield frame, spent
        if not count:
            raise UserError(f"{source}: no frame in it")
