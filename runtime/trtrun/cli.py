"""trtrun: track a target through a video."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.grid_cli import add_grid

if TYPE_CHECKING:
    from jntrt.runtime.video.stream import Frames

app = new_app("trtrun")
add_grid(app)


def main() -> int:
    """Entry point of `trtrun`."""
    return run(app)


@app.default
def trtrun(
    *sources: str,
    init: Annotated[list[str] | None, Parameter(consume_multiple=False)] = None,
    init_file: Path | None = None,
    bundle: Path | None = None,
    out: Path | None = None,
    save: Path | None = None,
    save_preset: str = "ultrafast",
    save_height: int | None = None,
    save_encoder: str = "libx264",
    json: bool = False,
    view: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_pixels: int = 1 << 26,
    backend: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    decode: Literal["cpu", "gpu"] = "cpu",
    workspace: int | None = None,
    optimization_level: int | None = None,
    timing_cache: Path | None = None,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"])] = False,
) -> None:
    """Track a target through a video, images, a camera or a stream.

    Without --out, --save and --json the boxes go to stdout, one line x,y,w,h per frame, unless that is a
    terminal. Ctrl-C and a broken source keep what was tracked until then. A frame that is missing in a
    damaged source repeats the line and the picture before it; JSON lines leave its number out.

    Parameters
    ----------
    sources:
        A video file, a folder of images (GOT-10k sequences too), a glob in quotes, a camera's number, or a
        stream's URL.
    init:
        The target in the first frame, x,y,w,h in pixels; once per target. A negative number is
        written --init=-5,10,20,30. Without it: the sequence's ground truth, else you draw the box.
    init_file:
        A file with that box first: groundtruth.txt, CSV with a header, JSON, or trtrun's JSON lines.
    bundle:
        What to track with: a folder that export-jn wrote. Default: the packaged model.
    out:
        File for the boxes: a line x,y,w,h per frame, frame 0 included (several targets: a file
        for each, boxes.1.txt, boxes.2.txt).
    save:
        Annotated video (.mp4, .mov, .mkv): box, score and the run's FPS.
    save_preset:
        x264's preset, from ultrafast (large file) to veryslow (small file).
    save_height:
        Rows of the annotated video. Default: the source's.
    save_encoder:
        FFmpeg's encoder: libx264, or one on hardware such as h264_nvenc, h264_qsv, h264_videotoolbox.
    json:
        A JSON line per frame on stdout: frame, box, score, lost, milliseconds in the tracker.
    view:
        A page in the browser: the first frame to draw the targets on, then the run, to pause, to step, to
        draw anew and to stop. On 127.0.0.1, also through ssh -L; elsewhere only where you say so:
        --view 0.0.0.0:8377.
    overwrite:
        Replace files that exist.
    strict:
        End at the first frame that is missing or damaged in the source.
    max_pixels:
        Refuse sources whose frames have more pixels. Default: 8192 x 8192.
    backend:
        auto, onnxruntime, openvino, onnxruntime-cuda, tensorrt or tensorrt-rtx.
    precision:
        fp32, another one that the bundle has, or bf16 (OpenVINO's, on CPUs that have it).
    threads:
        CPU threads of the engine. Default: the engine's own choice.
    decode:
        gpu: by NVDEC, with an engine on the GPU; frames then never leave it (no --save).
    workspace:
        TensorRT: MiB of scratch memory that a layer may take. Default: what the GPU has.
    optimization_level:
        TensorRT: 0 (quick build) to 5 (quick engine). Default: the library's, 3.
    timing_cache:
        TensorRT: a file of measured kernels, read where it exists and written after a build.
    verbose:
        Say which engines were passed over, and why.
    """
    if not sources:
        app.help_print()
        return
    import numpy as np
    from jntrt.runtime.bundle import Bundle, default_bundle
    from jntrt.runtime.command.console import clean_stderr
    from jntrt.runtime.command.interrupts import interrupts
    from jntrt.runtime.engines.tensorrt.build import BuildOptions
    from jntrt.runtime.engines.tensorrt.build_ahead import building
    from jntrt.runtime.tracker import Tracker
    from jntrt.runtime.trtrun.draw_box import draw_box
    from jntrt.runtime.trtrun.first_box import check_boxes, given_boxes
    from jntrt.runtime.trtrun.look import look, stop, viewing
    from jntrt.runtime.trtrun.outputs import Outputs
    from jntrt.runtime.trtrun.run import OneEach, follow
    from jntrt.runtime.trtrun.status import Status
    from jntrt.runtime.video.sources import are_images, frames
    from jntrt.runtime.video.writer import Encoding
    from jntrt.runtime.view.address import split_address

    sources, address = split_address(sources) if view else (sources, None)
    if len(sources) != 1:
        raise UserError(f"{' '.join(sources)}: give one source")
    source = sources[0]
    boxes = given_boxes(init or [], init_file, source)
    model = Bundle.open(bundle) if bundle else default_bundle()
    targets = model.batch if boxes is None else len(boxes)
    if model.batch not in (1, targets):
        raise UserError(f"the bundle {model.name} tracks {model.batch} target(s), {targets} given")
    encoding = Encoding(save_encoder, save_preset, save_height)

    def outputs_of(targets: int) -> Outputs:
        return Outputs(out, save, json=json, targets=targets, overwrite=overwrite, encoding=encoding)

    outputs = outputs_of(targets)
    for read in (Path(source), init_file):
        if any(path.exists() and read and read.exists() and path.samefile(read) for path in outputs.paths):
            raise UserError(f"{read}: would be overwritten by the result; give another name")
    if decode == "gpu" and (save or boxes is None):
        raise UserError("--decode gpu: frames stay on the GPU, so give --init, and no --save")
    with ExitStack() as stack:
        if are_images(source):
            stack.enter_context(clean_stderr())
        opened = _nvdec(source) if decode == "gpu" else frames(source, strict=strict, max_pixels=max_pixels)
        stream = stack.enter_context(opened)
        first = next(stream)
        session = stack.enter_context(viewing(stream, model, targets, address)) if address else None
        if boxes is None:
            boxes = session.choose(first) if session else np.stack([draw_box(first) for _ in range(targets)])
            targets = len(boxes)
            outputs = outputs_of(targets)
        check_boxes(boxes, first)
        with building(BuildOptions(workspace, optimization_level, timing_cache)):
            trackers = [
                stack.enter_context(
                    Tracker.from_bundle(model, backend=backend, precision=precision, threads=threads)
                )
                for _ in range(targets // model.batch)
            ]
        engine = trackers[0].choice if verbose else trackers[0].choice.split(";")[0]
        if decode == "gpu" and not trackers[0].on_device:
            raise UserError(f"--decode gpu: {engine} runs on the CPU: leave --decode gpu out")
        each = f", {len(trackers)} trackers, one for each target" if len(trackers) > 1 else ""
        print(f"{model.name}, {precision}, {engine}{each}", file=sys.stderr)
        # From here on Ctrl-C ends the stream, and never what is being written.
        stack.enter_context(interrupts.deferred(lambda: stop(stream, session)))
        # Left after the files that its summary names.
        status = stack.enter_context(
            Status(stream.length, outputs.paths, bar=not outputs.on_terminal, live=stream.live)
        )
        stack.enter_context(outputs.open(stream.fps))
        tracker = trackers[0] if len(trackers) == 1 else OneEach(trackers)
        for frame, tracked in follow(tracker, first, stream.numbered(), boxes):
            seen = look(session, tracker, frame, tracked) if session else tracked
            with status.writing():
                outputs.write(frame, seen, status.fps)
            status.step(seen)
            if session and session.stopped:
                break


def _nvdec(source: str) -> "Frames":
    from jntrt.runtime.cuda.decode import nvdec_frames
    from jntrt.runtime.cuda.network import shared_device

    return nvdec_frames(source, shared_device())
