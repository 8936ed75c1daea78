"""trtrun: track a target through a video."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.runtime.video.sources import Frames

app = new_app("trtrun")


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
    json: bool = False,
    view: bool = False,
    overwrite: bool = False,
    backend: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    decode: Literal["cpu", "gpu"] = "cpu",
    workspace: int | None = None,
    optimization_level: int | None = None,
    timing_cache: Path | None = None,
) -> None:
    """Track a target through a video, images, a camera or a stream.

    Without --out, --save and --json the boxes go to stdout, one line x,y,w,h per frame. Ctrl-C and a broken
    source keep what was tracked until then.

    Parameters
    ----------
    source:
        A video file, a folder of images (GOT-10k sequences too), a glob in quotes, a camera's number, or a
        stream's URL.
    init:
        The target in the first frame, x,y,w,h in pixels; once per target of the bundle. A negative number is
        written --init=-5,10,20,30. Without it: the sequence's ground truth, else you draw the box.
    init_file:
        A file whose first line is that box, such as groundtruth.txt.
    bundle:
        What to track with: a folder that export-jn wrote. Default: the packaged model.
    out:
        File for the boxes: a line x,y,w,h per frame, frame 0 included (several targets: a file
        for each, boxes.1.txt, boxes.2.txt).
    save:
        Annotated video (.mp4, .mov, .mkv): box, score and the tracker's FPS.
    json:
        A JSON line per frame on stdout: frame, box, score, lost, milliseconds in the tracker.
    view:
        A page in the browser: the first frame to draw the targets on, then the run, to pause, to step, to draw
        anew and to stop. On 127.0.0.1, also through ssh -L; elsewhere where you say so: --view 0.0.0.0:8377.
    overwrite:
        Replace files that exist.
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
    """
    import numpy as np
    from jntrt.runtime.bundle import Bundle, default_bundle
    from jntrt.runtime.engines.tensorrt.build import BuildOptions
    from jntrt.runtime.engines.tensorrt.build_ahead import building
    from jntrt.runtime.tracker import Tracker
    from jntrt.runtime.trtrun.draw_box import draw_box
    from jntrt.runtime.trtrun.outputs import Outputs
    from jntrt.runtime.trtrun.progress import Progress
    from jntrt.runtime.trtrun.run import check_boxes, follow, given_boxes
    from jntrt.runtime.video.sources import frames
    from jntrt.runtime.view.address import split_address
    from jntrt.runtime.view.run import look, viewing

    sources, address = split_address(sources) if view else (sources, None)
    source = sources[0]
    boxes = given_boxes(init or [], init_file, source)
    model = Bundle.open(bundle) if bundle else default_bundle()
    outputs = Outputs(out, save, json=json, targets=model.batch, overwrite=overwrite)
    for read in (Path(source), init_file):
        if any(path.exists() and read and read.exists() and path.samefile(read) for path in outputs.paths):
            raise UserError(f"{read}: would be overwritten by the result; give another name")
    if decode == "gpu" and (save or boxes is None):
        raise UserError("--decode gpu: frames stay on the GPU, so give --init, and no --save")
    with ExitStack() as stack:
        stream = stack.enter_context(frames(source) if decode == "cpu" else _nvdec(source))
        first = next(stream)
        session = stack.enter_context(viewing(stream, model, address)) if address else None
        if boxes is None and session:
            boxes = session.choose(first)
        elif boxes is None:
            boxes = np.stack([draw_box(first) for _ in range(model.batch)])
        if len(boxes) != model.batch:
            raise UserError(f"the bundle {model.name} tracks {model.batch} target(s), {len(boxes)} given")
        check_boxes(boxes, first)
        with building(BuildOptions(workspace, optimization_level, timing_cache)):
            tracker = Tracker.from_bundle(model, backend=backend, precision=precision, threads=threads)
        stack.enter_context(tracker)
        if decode == "gpu" and not tracker.on_device:
            raise UserError(f"--decode gpu: {tracker.choice} runs on the CPU: leave --decode gpu out")
        # Left last: its summary follows the files that it names.
        progress = stack.enter_context(Progress(stream.length, outputs.paths))
        print(f"{model.name}, {precision}, {tracker.choice}", file=sys.stderr)
        stack.enter_context(outputs.open(stream.fps))
        for frame, tracked in follow(tracker, first, stream, boxes):
            if session:
                tracked = look(session, tracker, frame, tracked)
            outputs.write(frame, tracked)
            progress.step(tracked)
            if session and session.stopped:
                break


def _nvdec(source: str) -> "Frames":
    from jntrt.runtime.cuda.decode import nvdec_frames
    from jntrt.runtime.cuda.network import shared_device

    return nvdec_frames(source, shared_device())
