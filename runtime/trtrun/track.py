"""One source, from its first frame to its files."""

import sys
import time
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.console import clean_stderr
from jntrt.runtime.command.interrupts import interrupts
from jntrt.runtime.command.start import BEGAN
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.draw_box import draw_box
from jntrt.runtime.trtrun.first_box import check_boxes, given_boxes
from jntrt.runtime.trtrun.look import look, stop, viewing
from jntrt.runtime.trtrun.options import Options
from jntrt.runtime.trtrun.results.outputs import Outputs
from jntrt.runtime.trtrun.results.profile import Profile
from jntrt.runtime.trtrun.results.status import Status
from jntrt.runtime.trtrun.results.tracked import Boxes
from jntrt.runtime.trtrun.run import follow
from jntrt.runtime.trtrun.several import Job
from jntrt.runtime.trtrun.trackers import opener
from jntrt.runtime.trtrun.window import Window
from jntrt.runtime.video.selection import Selection
from jntrt.runtime.video.sources import are_images, check_source, frames
from jntrt.runtime.video.stream import Frames
from jntrt.runtime.view.address import Address
from jntrt.runtime.view.session import Session


def track(
    job: Job, model: Bundle, options: Options, address: Address | None = None, *, named: bool = False
) -> None:
    """Track a source to its end, or until it is stopped. Raises UserError.

    address: of the page, where it is wanted. named: results tell the source's name, one of several.
    """
    source = job.source if isinstance(job.source, str) else None
    boxes = boxes_of(job, options)
    targets = model.batch if boxes is None else len(boxes)
    # Of several sources only the first could count from the command's own beginning.
    began = time.perf_counter() if named else BEGAN
    profile = Profile(began) if options.profile else None
    outputs = outputs_of(job, model, options, targets, named=named, profile=profile)
    if options.decode == "gpu" and (job.save or boxes is None or address or options.show):
        raise UserError(
            "--decode gpu: frames stay on the GPU, so give --init, and no --save, --view and --show"
        )
    with ExitStack() as stack:
        if source is None or are_images(source):
            stack.enter_context(clean_stderr())
        stream = stack.enter_context(open_source(job, options))
        first = next(stream)
        number = stream.number
        session = None
        if address:
            session = stack.enter_context(viewing(stream, model, targets, address))
        window = stack.enter_context(Window.opened()) if options.show else None
        if boxes is None:
            boxes = _drawn(session, first, targets)
            targets = len(boxes)
            outputs = outputs_of(job, model, options, targets, named=named, profile=profile)
        check_boxes(boxes, first)
        tracker = opener(model, options)(stack, targets, stream.fps)
        # From here on Ctrl-C ends the stream, and never what is being written.
        stack.enter_context(interrupts.deferred(lambda: stop(stream, session)))
        if profile:
            stack.callback(lambda: profile.report(live=stream.live, json=options.json))
        # Left after the files that its summary names.
        status = stack.enter_context(
            Status(stream.length, outputs.paths, bar=not outputs.on_terminal, live=stream.live)
        )
        stack.enter_context(outputs.open(stream.fps, stream.name))
        gone = 0
        for frame, tracked in follow(tracker, first, stream.numbered(), boxes, number):
            seen = look(session, tracker, frame, tracked) if session else tracked
            with status.writing():
                outputs.write(frame, seen, status.fps)
            status.step(seen)
            if profile:
                profile.frame(tracked, tracker.stage_ms, status.wrote)
            if (session and session.stopped) or (window and not window.show(frame, seen)):
                break
            gone = gone + 1 if all(seen.lost) else 0
            if gone == options.stop_when_lost:
                print(f"lost for {gone} frames: stopped at frame {seen.frame}", file=sys.stderr)
                break


def boxes_of(job: Job, options: Options) -> Boxes | None:
    """The first boxes of a source (B×4), None where the user has to draw them.

    UserError where they cannot be read, and before that where there is no such source.
    """
    if isinstance(job.source, str):
        check_source(job.source)
    file = options.init_file
    if file is not None and file.is_dir():
        file /= f"{job.name}.txt"
    folder = job.source if isinstance(job.source, str) else str(job.reads[0].parent)
    return given_boxes(options.init or [], file, folder)


def outputs_of(
    job: Job,
    model: Bundle,
    options: Options,
    targets: int,
    *,
    named: bool,
    profile: Profile | None = None,
) -> Outputs:
    """The files of a source's results. UserError where they would replace what is read."""
    if model.batch > 1 and targets > model.batch:
        raise UserError(f"the bundle {model.name} tracks up to {model.batch} targets, {targets} given")
    outputs = Outputs(
        job.out,
        job.save,
        json=options.json,
        targets=targets,
        overwrite=options.overwrite,
        encoding=options.encoding,
        kind=options.format,
        trail=options.trail,
        every=options.selection.every,
        named=named,
        timed=profile.add if profile else None,
    )
    for read in (*job.reads, options.init_file):
        if any(path.exists() and read and read.exists() and path.samefile(read) for path in outputs.paths):
            raise UserError(f"{read}: would be overwritten by the result; give another name")
    return outputs


def open_source(job: Job, options: Options) -> Frames:
    """The frames of a source, as the options choose them."""
    if options.decode == "gpu":
        from jntrt.runtime.cuda.decode import nvdec_frames
        from jntrt.runtime.engines.device import shared_device

        if not isinstance(job.source, str) or options.selection != Selection():
            raise UserError("--decode gpu: takes a whole video; leave --start, --end, --every, --resize out")
        return nvdec_frames(job.source, shared_device(options.device), options.max_pixels)
    return frames(
        job.source, strict=options.strict, max_pixels=options.max_pixels, selection=options.selection
    )


def _drawn(session: Session | None, first: npt.NDArray[np.uint8], targets: int) -> Boxes:
    """The boxes that the user draws, in the page or in a window."""
    if session is not None:
        return session.choose(first)
    return np.stack([draw_box(first) for _ in range(targets)])
