"""What the user may choose of a run: the flags of trtrun, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jntrt.runtime.errors import UserError

# What reads and computes is imported where it is needed: the command's help must stay fast.
if TYPE_CHECKING:
    from jntrt.runtime.engines.tensorrt.build import BuildOptions
    from jntrt.runtime.video.selection import Selection
    from jntrt.runtime.video.writer import Encoding


@dataclass(frozen=True)
class Options:
    """Flags of `trtrun`, for every source alike. Raises UserError for a value that there is not.

    Parameters
    ----------
    init:
        The target in the first frame, x,y,w,h in pixels; once per target. A negative number is
        written --init=-5,10,20,30. Without it: the sequence's ground truth, else you draw the box.
    init_file:
        A file with that box first: groundtruth.txt, CSV with a header, JSON, or trtrun's JSON lines; of
        several sources a folder with NAME.txt for each.
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
    at_once:
        Sources with --out-dir that are tracked at the same time, in one engine; 1: one after another. So they
        are too where you draw, look, or read --json.
    server:
        Track on a server instead of here: grpc://HOST:8001 of a Triton with a model of export-jn triton.
    send:
        How frames go to the server: raw (exact, 6 MB at 1080p), jpeg (small, quality 90), or shared (exact,
        memory shared with a server on this machine).
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
    redetect:
        Search for a lost target, in the time that a frame of the source leaves; JSON lines say where it was
        found again.
    stop_when_lost:
        End once every target has been lost for N frames in a row.
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
        auto (fp16 on a GPU where it is safe, else bf16-gpu, else fp32), one that the bundle has, bf16
        (OpenVINO's, on CPUs that have it) or tf32 (a GPU's).
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
    portable:
        TensorRT: an engine for every GPU from Ampere on (export-jn build --portable says what it costs).
    engine:
        TensorRT: files of the template and the track graph's engines, built by trtexec from the bundle's ONNX
        as docs/gpu.md says. They are checked by the bundle's samples in every run, and not kept.
    trust:
        The files of --engine may run: an engine can hold any code.
    engine_key:
        TensorRT: the file of the key that signs a fleet's engines (export-jn build --engine-key makes it).
        Default: this machine's own key.
    profile:
        Say after the run, on stderr, where its time went, stage by stage, and what it was bound by; with
        --json as one line of JSON.
    verbose:
        Say which engines were passed over, and why.
    """

    init: Annotated[list[str] | None, Parameter(consume_multiple=False)] = None
    init_file: Path | None = None
    bundle: str | None = None
    out: Path | None = None
    save: Path | None = None
    save_preset: str = "ultrafast"
    save_height: int | None = None
    save_encoder: str = "libx264"
    json: bool = False
    format: Literal["txt", "mot", "coco", "csv"] = "txt"
    out_dir: Path | None = None
    at_once: int = 16
    server: str | None = None
    send: Literal["raw", "jpeg", "shared"] = "raw"
    start: str | None = None
    end: str | None = None
    every: int = 1
    resize: str | None = None
    trail: int = 0
    redetect: bool = False
    stop_when_lost: int | None = None
    view: bool = False
    show: bool = False
    overwrite: bool = False
    strict: bool = False
    max_pixels: int = 1 << 26
    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    decode: Literal["cpu", "gpu"] = "cpu"
    device: int = 0
    own_graph: bool = False
    workspace: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    portable: bool = False
    engine: tuple[Path, Path] | None = None
    trust: bool = False
    engine_key: Path | None = None
    profile: bool = False
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"])] = False

    def __post_init__(self) -> None:
        if self.trail < 0:
            raise UserError(f"--trail {self.trail}: give a number of frames")
        if self.stop_when_lost is not None and self.stop_when_lost < 1:
            raise UserError(f"--stop-when-lost {self.stop_when_lost}: give a number of frames from 1")
        if self.redetect and self.decode == "gpu":
            raise UserError("--redetect compares pixels on the host: leave --decode gpu out")
        if self.at_once < 1:
            raise UserError(f"--at-once {self.at_once}: give a number of sources")
        if self.server and (self.bundle or self.decode == "gpu" or self.engine):
            raise UserError(
                "--server: bundle and engine are the server's; leave --bundle, --decode and --engine out"
            )
        if self.trust and not self.engine:
            raise UserError("--trust is for the files of --engine: leave it out")
        _ = self.selection, self.encoding, self.build  # each refuses what it cannot mean

    @cached_property
    def selection(self) -> Selection:
        """Which frames are tracked, and at what size."""
        from jntrt.runtime.video.selection import Selection

        return Selection.parsed(self.start, self.end, self.every, self.resize)

    @cached_property
    def encoding(self) -> Encoding:
        """How the annotated video is written."""
        from jntrt.runtime.video.writer import Encoding

        return Encoding(self.save_encoder, self.save_preset, self.save_height)

    @cached_property
    def build(self) -> BuildOptions:
        """How TensorRT builds an engine that the cache lacks."""
        from jntrt.runtime.engines.tensorrt.build import BuildOptions

        return BuildOptions(
            self.workspace,
            self.optimization_level,
            timing_cache=self.timing_cache,
            portable=self.portable,
        )
