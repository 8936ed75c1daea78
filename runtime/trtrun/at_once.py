"""Several sources at once: a thread for each, one engine, and a broken one ends alone."""

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.console import clean_stderr, one_line
from jntrt.runtime.command.interrupts import interrupts
from jntrt.runtime.command.progress import progress_bar
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.first_box import check_boxes
from jntrt.runtime.trtrun.options import Options
from jntrt.runtime.trtrun.results.status import Status
from jntrt.runtime.trtrun.run import follow
from jntrt.runtime.trtrun.several import Job
from jntrt.runtime.trtrun.track import boxes_of, open_source, outputs_of
from jntrt.runtime.trtrun.trackers import Opener, shared_opener
from jntrt.runtime.video.sources import are_images
from jntrt.runtime.video.stream import Frames

if TYPE_CHECKING:
    from rich.progress import Progress


def can_be_at_once(jobs: Sequence[Job], options: Options) -> bool:
    """Whether these sources need nobody who draws or looks, and no order on stdout."""
    alone = options.view or options.show or options.json or options.profile or options.decode == "gpu"
    several = len(jobs) > 1 and options.at_once > 1
    return several and not alone and all(_need_no_drawing(job, options) for job in jobs)


def _need_no_drawing(job: Job, options: Options) -> bool:
    try:
        return boxes_of(job, options) is not None
    except UserError:  # which its own run tells
        return True


def track_at_once(jobs: Sequence[Job], model: Bundle, options: Options) -> int:
    """Track all sources to their ends, at most `options.at_once` at a time; the exit code.

    A source that fails says so in one line, keeps what was tracked of it, and leaves the others alone.
    """
    with ExitStack() as stack:
        if any(isinstance(job.source, tuple) or are_images(job.source) for job in jobs):
            stack.enter_context(clean_stderr())
        beside = min(len(jobs), options.at_once)
        opener = shared_opener(stack, model, options, max(1, (os.cpu_count() or 1) // beside))
        bar = progress_bar("{task.description}", "{task.fields[note]}")
        sources = [_Source(job, model, options, opener) for job in jobs]

        def stop_all() -> None:
            for source in sources:
                source.stop()

        stack.enter_context(interrupts.deferred(stop_all))
        with bar, ThreadPoolExecutor(beside) as pool:
            ends = list(pool.map(lambda source: source.run(bar), sources))
    return next(filter(None, ends), 0)


class _Source:
    """One source in its thread."""

    def __init__(self, job: Job, model: Bundle, options: Options, opener: Opener) -> None:
        self._job, self._model, self._options, self._opener = job, model, options, opener
        self._stream: Frames | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let it end before its next frame."""
        self._stopped.set()
        if self._stream is not None:
            self._stream.stop()

    def run(self, bar: "Progress") -> int:
        """Follow it to its end; its exit code."""
        try:
            if not self._stopped.is_set():
                self._follow(bar)
        except UserError as error:
            # One write: print's two would mix with those of other threads.
            sys.stderr.write(f"trtrun: {self._job.name}: {one_line(error)}\n")
            return error.exit_code
        return 0

    def _follow(self, bar: "Progress") -> None:
        job, options = self._job, self._options
        boxes = boxes_of(job, options)
        assert boxes is not None
        outputs = outputs_of(job, self._model, options, len(boxes), named=True)
        with ExitStack() as stack:
            stream = self._stream = stack.enter_context(open_source(job, options))
            first = next(stream)
            number = stream.number
            check_boxes(boxes, first)
            tracker = self._opener(stack, len(boxes), stream.fps)
            if self._stopped.is_set():  # while the first frame was being read
                stream.stop()
            status = stack.enter_context(
                Status(stream.length, outputs.paths, live=stream.live, name=job.name, among=bar)
            )
            stack.enter_context(outputs.open(stream.fps, stream.name))
            for frame, tracked in follow(tracker, first, stream.numbered(), boxes, number):
                with status.writing():
                    outputs.write(frame, tracked, status.fps)
                status.step(tracked)
