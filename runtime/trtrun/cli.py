"""trtrun: track a target through a video."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.grid_cli import add_grid

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
    bundle: str | None = None,
    out: Path | None = None,
    save: Path | None = None,
    save_preset: str = "ultrafast",
    save_height: int | None = None,
    save_encoder: str = "libx264",
    json: bool = False,
    format: Literal["txt", "mot", "coco", "csv"] = "txt",
    out_dir: Path | None = None,
    start: str | None = None,
    end: str | None = None,
    every: int = 1,
    resize: str | None = None,
    trail: int = 0,
    view: bool = False,
    show: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_pixels: int = 1 << 26,
    backend: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    decode: Literal["cpu", "gpu"] = "cpu",
    device: int = 0,
    own_graph: bool = False,
    workspace: int | None = None,
    optimization_level: int | None = None,
    timing_cache: Path | None = None,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"])] = False,
) -> int:
    """Track a target through a video, images, a camera or a stream.

    Without --out, --save and --json the boxes go to stdout, one line x,y,w,h per frame, unless that is a
    terminal. Ctrl-C and a broken source keep what was tracked until then. A frame that is missing in a
    damaged source repeats the line and the picture before it; JSON lines leave its number out.

    Parameters
    ----------
    sources:
        A video file, a folder of images (GOT-10k sequences too), a glob, a camera's number, a stream's URL,
        or - for a video on stdin. Several are tracked one after another; images that a glob lists are one.
    init:
        The target in the first frame, x,y,w,h in pixels; once per target. A negative number is
        written --init=-5,10,20,30. Without it: the sequence's ground truth, else you draw the box.
    init_file:
        A file with that box first: groundtruth.txt, CSV with a header, JSON, or trtrun's JSON lines.
    bundle:
        What to track with: a folder that export-jn wrote, or a packaged bundle's name; list names these.
        Default: the packaged nanotrack-v3.
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
    format:
        Of the boxes' file: txt as above, mot (MOTChallenge), coco (annotations), csv (with a header); the
        last three hold all targets, and frames by number.
    out_dir:
        Folder for the boxes of each source, named after it; --save .mp4 then puts a video beside each.
    start:
        Begin at this frame: its number from 0, or seconds such as 2.5s or 1:02.5. Frames keep their numbers.
    end:
        End before this frame.
    every:
        Take only each N-th frame.
    resize:
        Scale frames first, to 640x360 or by 0.5; boxes, the first too, are then in scaled pixels.
    trail:
        Draw where each target was during the last N frames (--save).
    view:
        A page in the browser: the first frame to draw the targets on, then the run, to pause, to step, to
        draw anew and to stop. On 127.0.0.1, also through ssh -L; elsewhere only where you say so:
        --view 0.0.0.0:8377.
    show:
        A window with the run, where there is a display; q stops.
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
    device:
        The number of the GPU, for an engine on one. Default: the first, 0.
    own_graph:
        onnxruntime-cuda: replay a CUDA graph of its own, one launch in place of one for every kernel.
    workspace:
        TensorRT: MiB of scratch memory that a layer may take. Default: what the GPU has.
    optimization_level:
        TensorRT: 0 (quick build) to 5 (quick engine). Default: the library's, 3.
    timing_cache:
        TensorRT: a file of measured kernels, read where it exists and written after a build.
    verbose:
        Say which engines were passed over, and why.
    """
    if bundle == "list" and not Path(bundle).exists():
        return _list_packaged()
    if not sources:
        app.help_print()
        return 0
    from jntrt.runtime.bundle import open_bundle
    from jntrt.runtime.command.console import one_line
    from jntrt.runtime.engines.tensorrt.build import BuildOptions
    from jntrt.runtime.trtrun.several import jobs
    from jntrt.runtime.trtrun.track import Options, track
    from jntrt.runtime.video.selection import Selection
    from jntrt.runtime.video.writer import Encoding
    from jntrt.runtime.view.address import split_address

    words, address = split_address(sources) if view else (sources, None)
    todo = jobs(words, out, save, out_dir, format)
    if len(todo) > 1 and not (out_dir or json):
        raise UserError(f"{len(todo)} sources, one after another: give --out-dir for their boxes, or --json")
    if trail < 0:
        raise UserError(f"--trail {trail}: give a number of frames")
    options = Options(
        init=init or [],
        init_file=init_file,
        selection=Selection.parsed(start, end, every, resize),
        encoding=Encoding(save_encoder, save_preset, save_height),
        kind=format,
        trail=trail,
        json=json,
        name_sources=len(todo) > 1,
        view=address,
        show=show,
        overwrite=overwrite,
        strict=strict,
        max_pixels=max_pixels,
        backend=backend,
        precision=precision,
        threads=threads,
        decode=decode,
        device=device,
        own_graph=own_graph,
        build=BuildOptions(workspace, optimization_level, timing_cache=timing_cache),
        verbose=verbose,
    )
    model = open_bundle(bundle)
    if len(todo) == 1:
        track(todo[0], model, options)
        return 0
    failed = 0
    for job in todo:
        print(f"trtrun: {job.reads[0]}", file=sys.stderr)
        try:
            track(job, model, options)
        except UserError as error:  # the others are tracked all the same
            print(f"trtrun: {one_line(error)}", file=sys.stderr)
            failed = error.exit_code
    return failed


def _list_packaged() -> int:
    from jntrt.runtime.bundle.packaged import DEFAULT, describe, open_packaged, packaged_names

    for name in packaged_names():
        told = " (default)" if name == DEFAULT else ""
        print(f"{name}{told}: {describe(open_packaged(name))}")
    return 0
