"""One source, from its first frame to its files."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.console import clean_stderr
from jntrt.runtime.command.interrupts import interrupts
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.tensorrt.build import BuildOptions
from jntrt.runtime.engines.tensorrt.build_ahead import build_bar
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker
from jntrt.runtime.trtrun.draw_box import draw_box
from jntrt.runtime.trtrun.first_box import check_boxes, given_boxes
from jntrt.runtime.trtrun.look import look, stop, viewing
from jntrt.runtime.trtrun.results.outputs import Outputs
from jntrt.runtime.trtrun.results.status import Status
from jntrt.runtime.trtrun.results.tracked import Boxes
from jntrt.runtime.trtrun.run import OneEach, follow
from jntrt.runtime.trtrun.several import Job
from jntrt.runtime.trtrun.window import Window
from jntrt.runtime.video.selection import Selection
from jntrt.runtime.video.sources import are_images, frames
from jntrt.runtime.video.stream import Frames
from jntrt.runtime.video.writer import Encoding
from jntrt.runtime.view.address import Address
from jntrt.runtime.view.session import Session


@dataclass(frozen=True)
class Options:
    """What was asked for, for every source alike; the command's help explains each."""

    init: list[str] = field(default_factory=list)
    init_file: Path | None = None
    selection: Selection = field(default_factory=Selection)
    encoding: Encoding = field(default_factory=Encoding)
    kind: str = "txt"
    trail: int = 0
    json: bool = False
    name_sources: bool = False
    view: Address | None = None
    show: bool = False
    overwrite: bool = False
    strict: bool = False
    max_pixels: int = 1 << 26
    backend: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    decode: str = "cpu"
    device: int = 0
    own_graph: bool = False
    build: BuildOptions = field(default_factory=BuildOptions)
    verbose: bool = False


def track(job: Job, model: Bundle, options: Options) -> None:
    """Track a source to its end, or until it is stopped. Raises UserError."""
    source = job.source if isinstance(job.source, str) else None
    boxes = given_boxes(options.init, options.init_file, source or str(job.reads[0].parent))
    targets = model.batch if boxes is None else len(boxes)
    if model.batch not in (1, targets):
        raise UserError(f"the bundle {model.name} tracks {model.batch} target(s), {targets} given")
    outputs = _outputs(job, options, targets)
    for read in (*job.reads, options.init_file):
        if any(path.exists() and read and read.exists() and path.samefile(read) for path in outputs.paths):
            raise UserError(f"{read}: would be overwritten by the result; give another name")
    if options.decode == "gpu" and (job.save or boxes is None or options.view or options.show):
        raise UserError(
            "--decode gpu: frames stay on the GPU, so give --init, and no --save, --view and --show"
        )
    with ExitStack() as stack:
        if source is None or are_images(source):
            stack.enter_context(clean_stderr())
        stream = stack.enter_context(_opened(job, options))
        first = next(stream)
        number = stream.number
        session = None
        if options.view:
            session = stack.enter_context(viewing(stream, model, targets, options.view))
        window = stack.enter_context(Window.opened()) if options.show else None
        if boxes is None:
            boxes = _drawn(session, first, targets)
            targets = len(boxes)
            outputs = _outputs(job, options, targets)
        check_boxes(boxes, first)
        tracker = _tracker(stack, model, options, targets)
        # From here on Ctrl-C ends the stream, and never what is being written.
        stack.enter_context(interrupts.deferred(lambda: stop(stream, session)))
        # Left after the files that its summary names.
        status = stack.enter_context(
            Status(stream.length, outputs.paths, bar=not outputs.on_terminal, live=stream.live)
        )
        stack.enter_context(outputs.open(stream.fps, stream.name))
        for frame, tracked in follow(tracker, first, stream.numbered(), boxes, number):
            seen = look(session, tracker, frame, tracked) if session else tracked
            with status.writing():
                outputs.write(frame, seen, status.fps)
            status.step(seen)
            if (session and session.stopped) or (window and not window.show(frame, seen)):
                break


def _outputs(job: Job, options: Options, targets: int) -> Outputs:
    return Outputs(
        job.out,
        job.save,
        json=options.json,
        targets=targets,
        overwrite=options.overwrite,
        encoding=options.encoding,
        kind=options.kind,
        trail=options.trail,
        every=options.selection.every,
        named=options.name_sources,
    )


def _opened(job: Job, options: Options) -> Frames:
    if options.decode == "gpu":
        from jntrt.runtime.cuda.decode import nvdec_frames
        from jntrt.runtime.engines.device import shared_device

        if not isinstance(job.source, str) or options.selection != Selection():
            raise UserError("--decode gpu: takes a whole video; leave --start, --end, --every, --resize out")
        return nvdec_frames(job.source, shared_device(options.device))
    return frames(
        job.source, strict=options.strict, max_pixels=options.max_pixels, selection=options.selection
    )


def _drawn(session: Session | None, first: npt.NDArray[np.uint8], targets: int) -> Boxes:
    """The boxes that the user draws, in the page or in a window."""
    if session is not None:
        return session.choose(first)
    return np.stack([draw_box(first) for _ in range(targets)])


def _tracker(stack: ExitStack, model: Bundle, options: Options, targets: int) -> Tracker | OneEach:
    """A tracker, or one for each target on a bundle of one; says on stderr which engine it runs on."""
    with build_bar() as bar:
        engine_options = EngineOptions(
            threads=options.threads,
            device=options.device,
            build=options.build,
            progress=bar,
            own_graph=options.own_graph,
        )
        trackers = [
            stack.enter_context(
                Tracker.from_bundle(model, options.backend, options.precision, options=engine_options)
            )
            for _ in range(targets // model.batch)
        ]
    engine = trackers[0].choice if options.verbose else trackers[0].choice.split(";")[0]
    if options.decode == "gpu" and not trackers[0].on_device:
        raise UserError(f"--decode gpu: {engine} runs on the CPU: leave --decode gpu out")
    each = f", {len(trackers)} trackers, one for each target" if len(trackers) > 1 else ""
    print(f"{model.name}, {options.precision}, {engine}{each}", file=sys.stderr)
    return trackers[0] if len(trackers) == 1 else OneEach(trackers)
