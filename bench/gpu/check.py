"""Everything that only a GPU can show, in one command and one table:

    python -m jntrt.bench.gpu.check

First it compares the crop and box kernels with the host's bits (`--kernels-only` does that alone, for

    compute-sanitizer --tool memcheck python -m jntrt.bench.gpu.check --kernels-only

). Then, on the packaged bundles and on untrained ones of the families' published networks, or on those that
are named, it measures a frame at 1080p five ways in every engine that this machine has, beside PyTorch eager
and torch.compile of the plain form in the same process:

    device frame   the frame lies on the GPU: crop, network, box as one launch, until the box is read
    host frame     crop on the host, its upload, network, box
    frame buffer   the frame in page-locked memory, which the crop kernel reads in place
    whole upload   the frame's 6 MB up, then as a device frame; nothing overlaps
    network        the track graph alone on what lies in its inputs

Every row is printed and kept in the working folder as it comes; a later run there goes on after the last
one. `--quick` takes the packaged bundles, fewer calls, and engines as `auto` would open them, in a few
minutes. Below the table stands what was aimed at.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.gpu.bundles import make_bundles
from jntrt.bench.gpu.kernels import check_box, check_crop
from jntrt.bench.gpu.loop import Image, measure_loop
from jntrt.bench.gpu.rows import Row, RowFile, line_of, print_rows
from jntrt.bench.gpu.torch_networks import LABELS, measure_torch
from jntrt.bench.latency.drawn_video import BOX, write_clip
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle, open_bundle
from jntrt.runtime.bundle.packaged import packaged_names
from jntrt.runtime.cuda.driver import CudaError, Device
from jntrt.runtime.cuda.loop import DeviceLoop
from jntrt.runtime.engines import backend_class
from jntrt.runtime.engines.device import shared_device
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.engines.tensorrt.build import BuildOptions
from jntrt.runtime.errors import UserError

Engine = tuple[str, str, EngineOptions]  # backend, precision, options


@dataclass(frozen=True)
class Variant:
    """A backend in one of its settings; the first of each backend is what `auto` would open."""

    backend: str
    setting: str = ""  # after the precision in the row's name
    options: EngineOptions = field(default_factory=EngineOptions)


VARIANTS = (
    Variant("tensorrt"),
    Variant("tensorrt", "no aux streams", EngineOptions(build=BuildOptions(max_aux_streams=0))),
    Variant("tensorrt", "level 5", EngineOptions(build=BuildOptions(optimization_level=5))),
    Variant("tensorrt-rtx"),
    Variant("onnxruntime-cuda"),
    Variant("onnxruntime-cuda", "own graph", EngineOptions(own_graph=True)),
)
PRECISIONS = ("fp16", "bf16-gpu", "fp32")
TORCH = "torch"
QUICK_CALLS = 50


@dataclass(frozen=True)
class Wanted:
    """What a run measures."""

    backends: tuple[str, ...]
    precisions: tuple[str, ...]
    calls: int
    quick: bool


def main() -> int:
    """Run the checks, print the table (or JSON); 1 when a kernel differs, 2 when nothing was measured."""
    arguments = _parser().parse_args()
    try:
        device = shared_device(arguments.device)
        device.activate()
    except CudaError as error:
        print(f"gpu_check: {error}: nothing was measured", file=sys.stderr)
        return 2
    kernels = {"crop": check_crop(device), "box": check_box(device)}
    print(f"{device.info}; kernels against the host: {kernels}", file=sys.stderr)
    if not all(text.startswith("equal") for text in kernels.values()):
        return 1
    if arguments.kernels_only:
        return 0
    wanted = Wanted(
        backends=tuple(arguments.engine or (*dict.fromkeys(v.backend for v in VARIANTS), TORCH)),
        precisions=tuple(arguments.precision or PRECISIONS),
        calls=arguments.calls or (QUICK_CALLS if arguments.quick else 500),
        quick=arguments.quick,
    )
    rows = []
    try:
        arguments.work.mkdir(parents=True, exist_ok=True)
        kept = RowFile(arguments.work / "rows.jsonl", asdict(device.info))
        for row in measure(device, _bundles(arguments), wanted, kept):
            print(line_of(row), file=sys.stderr, flush=True)
            rows.append(row)
    except (UserError, OSError) as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(
            json.dumps({"device": asdict(device.info), "kernels": kernels, "rows": [asdict(r) for r in rows]})
        )
    else:
        print_rows(rows)
    return 0 if rows else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What only a GPU can show, in one table.")
    parser.add_argument("bundles", nargs="*", type=Path, help="bundles; default: the packaged and made ones")
    parser.add_argument("--kernels-only", action="store_true", help="only compare the kernels with the host")
    parser.add_argument("--quick", action="store_true", help="packaged bundles, 50 calls, default settings")
    engines = [*dict.fromkeys(variant.backend for variant in VARIANTS), TORCH]
    parser.add_argument("--engine", action="append", choices=engines, help="only this one (may be repeated)")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="only this one (likewise)")
    parser.add_argument("--calls", type=int, help="timed calls of each kind (default 500)")
    parser.add_argument("--device", type=int, default=0, help="the GPU's number (default 0)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("gpu_check"),
        help="folder of rows and made bundles, where a later run goes on (default gpu_check)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _bundles(arguments: argparse.Namespace) -> Iterator[Path | str]:
    if arguments.bundles:
        yield from arguments.bundles
        return
    yield from packaged_names()
    if not arguments.quick:
        yield from make_bundles(arguments.work)


def measure(device: Device, bundles: Iterator[Path | str], wanted: Wanted, kept: RowFile) -> Iterator[Row]:
    """The rows of all bundles as they come; those that `kept` has are not measured again."""
    for path in bundles:
        try:
            bundle = open_bundle(path)
            yield from measure_bundle(device, bundle, wanted, kept)
        except UserError as error:  # the others are measured all the same
            print(f"gpu_check: {path}: {error}", file=sys.stderr)


def measure_bundle(device: Device, bundle: Bundle, wanted: Wanted, kept: RowFile) -> Iterator[Row]:
    """One bundle in all engines of this machine, then in torch."""
    sha256, ordinal = bundle.sha256, device.info.ordinal
    frames: list[Image] = []
    truth: NDArray[Any] | None = None
    for precision in [name for name in wanted.precisions if name in bundle.precisions]:
        for variant in VARIANTS:
            if variant.backend not in wanted.backends or (wanted.quick and variant.setting):
                continue
            label = f"{variant.backend} {precision}" + (f", {variant.setting}" if variant.setting else "")
            row = kept.find(sha256, bundle.name, label)
            if row is not None:
                yield row
                continue
            obstacle = backend_class(variant.backend).obstacle(find_precision(precision), ordinal)
            if obstacle:
                print(f"{bundle.name} {label}: {obstacle}", file=sys.stderr)
                continue
            frames = frames or drawn_frames()
            try:
                if truth is None:
                    truth = forced_boxes(bundle, ("onnxruntime", "fp32", EngineOptions()), frames)
                engine = (variant.backend, precision, replace(variant.options, device=ordinal))
                row = measure_engine(device, bundle, engine, frames, truth, wanted.calls)
            except UserError as error:
                print(f"{bundle.name} {label}: {error}", file=sys.stderr)
                continue
            row = replace(row, engine=label)
            kept.add(sha256, row)
            yield row
    if TORCH not in wanted.backends or wanted.quick:
        return
    done = {label: kept.find(sha256, bundle.name, label) for label in LABELS}
    yield from filter(None, done.values())
    missing = [label for label, row in done.items() if row is None]
    if missing:
        frames = frames or drawn_frames()
        for label, launch, times in measure_torch(device, bundle, frames, wanted.calls, missing):
            row = Row(bundle.name, label, launch, times, None)
            kept.add(sha256, row)
            yield row


def drawn_frames(count: int = 12) -> list[Image]:
    """1080p frames of the bench's own clip."""
    from jntrt.runtime.video.sources import frames

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, frames=count)
        with frames(str(path)) as reader:
            return [np.ascontiguousarray(frame) for frame in reader]


def forced_boxes(bundle: Bundle, engine: Engine, frames: list[Image]) -> NDArray[Any]:
    """Each frame's box with the state put back to the target before it, so that errors do not add up."""
    targets = np.array([BOX] * bundle.batch)
    backend, precision, options = engine
    with Tracker.from_bundle(bundle, backend, precision, options=options) as tracker:
        tracker.init(frames[0], targets)
        boxes = []
        for frame in frames[1:]:
            tracker.state = targets
            boxes.append(tracker.update(frame).box)
    return np.array(boxes)


def measure_engine(
    device: Device,
    bundle: Bundle,
    engine: Engine,
    frames: list[Image],
    wanted: NDArray[Any],
    calls: int,
) -> Row:
    """One engine, five ways."""
    got = forced_boxes(bundle, engine, frames)
    backend, precision, options = engine
    with Tracker.from_bundle(bundle, backend, precision, options=options) as tracker:
        tracker.init(frames[0], [BOX] * bundle.batch)
        loop: DeviceLoop = tracker._loop  # type: ignore[assignment]  # these engines all bring one
        times = measure_loop(device, loop, frames, calls)
        launch = loop.launch
    return Row(bundle.name, f"{backend} {precision}", launch, times, float(np.abs(got - wanted).max()))


if __name__ == "__main__":
    sys.exit(main())
