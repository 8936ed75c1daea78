"""Everything that only a GPU can show, in one command and one table:

    python -m jntrt.bench.gpu.check

Makes untrained bundles of the families' published networks where none are named, adds fp16 to
them with calib-jn, and for every engine that this machine has (TensorRT, TensorRT-RTX, ONNX Runtime CUDA;
torch inside the device loop where there is none of them) measures a frame at 1080p four ways, beside
PyTorch eager and torch.compile of the plain form in the same process. First it compares the crop and box
kernels with the host's bits. `--kernels-only` does that alone, for

    compute-sanitizer --tool memcheck python -m jntrt.bench.gpu.check --kernels-only

    device frame   the frame lies on the GPU: crop, network, box as one launch, until the box is read
    host frame     crop on the host, its upload, network, box
    whole upload   the frame's 6 MB up, then as a device frame; nothing overlaps
    network        the track graph alone on what lies in its inputs

ONNX Runtime CUDA is measured with its own CUDA graph as well. Below the table stands what was aimed at.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.gpu.kernels import check_box, check_crop
from jntrt.bench.gpu.loop import Figures, Image, measure_loop
from jntrt.bench.gpu.torch_networks import EAGER, measure_torch
from jntrt.bench.latency.drawn_video import BOX, HEIGHT, WIDTH, write_clip
from jntrt.export.families import FAMILIES, family, folder_name
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle, open_bundle
from jntrt.runtime.cuda.driver import CudaError, Device
from jntrt.runtime.cuda.loop import DeviceLoop
from jntrt.runtime.engines import backend_class
from jntrt.runtime.engines.device import shared_device
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import UserError

Engine = tuple[str, str, EngineOptions]  # backend, precision, options

# Backends, and whether the session replays a CUDA graph of its own.
ENGINES = (
    ("tensorrt", False),
    ("tensorrt-rtx", False),
    ("onnxruntime-cuda", False),
    ("onnxruntime-cuda", True),
)
# Milliseconds beside the network alone, and times PyTorch eager.
AIMS = {"device frame": 0.05, "host frame": 0.15, "eager": 5.0}


@dataclass(frozen=True)
class Row:
    """One engine: its times, and how far its boxes are from the CPU's fp32 ones, in pixels at most."""

    bundle: str
    engine: str
    launch: str
    times: Figures
    worst_px: float | None


def main() -> int:
    """Run the checks, print the table (or JSON); 1 when a kernel differs, 2 when nothing was measured."""
    parser = argparse.ArgumentParser(description="What only a GPU can show, in one table.")
    parser.add_argument("bundles", nargs="*", type=Path, help="bundles; default: untrained ones, made here")
    parser.add_argument("--kernels-only", action="store_true", help="only compare the kernels with the host")
    parser.add_argument("--calls", type=int, default=500, help="timed calls of each kind (default 500)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    try:
        device = shared_device()
    except CudaError as error:
        print(f"gpu_check: {error}: nothing was measured", file=sys.stderr)
        return 2
    kernels = {"crop": check_crop(device), "box": check_box(device)}
    print(f"{device.info}; kernels against the host: {kernels}", file=sys.stderr)
    if not all(text.startswith("equal") for text in kernels.values()):
        return 1
    if arguments.kernels_only:
        return 0
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in arguments.bundles or make_bundles(Path(folder)):
            try:
                rows += measure_bundle(device, open_bundle(path), arguments.calls)
            except UserError as error:  # the others are measured all the same
                print(f"gpu_check: {path.name}: {error}", file=sys.stderr)
    if arguments.json:
        print(
            json.dumps({"device": asdict(device.info), "kernels": kernels, "rows": [asdict(r) for r in rows]})
        )
    else:
        print_rows(rows)
    return 0 if rows else 2


def make_bundles(folder: Path) -> list[Path]:
    """Untrained bundles of all families' published networks, fp32 and fp16, by the product's own commands."""
    import torch
    import yaml
    from safetensors.torch import save_file

    clips = folder / "clips"
    clips.mkdir()
    for name in ("one", "two"):  # one to calibrate on, which takes a frame per crop, and one held back
        write_clip(clips / f"{name}.mp4", frames=12)
        lines = [f"{number},{','.join(f'{value:g}' for value in BOX)}" for number in range(12)]
        (clips / f"{name}.csv").write_text("\n".join(["frame,x,y,w,h", *lines]) + "\n")
    paths = []
    for kind in map(family, dict.fromkeys(map(folder_name, FAMILIES))):
        for name, recipe in kind.networks().items():
            if name == "tiny":
                continue
            print(f"making {name}", file=sys.stderr)
            torch.manual_seed(0)
            weights, config, bundle = folder / f"{name}.safetensors", folder / f"{name}.yaml", folder / name
            state = kind.plain(recipe).state_dict()
            save_file({key: value.contiguous() for key, value in state.items()}, weights)
            config.write_text(yaml.safe_dump({**kind.experiment(recipe), "TRAINED": "no"}))
            _command("jntrt.export.cli", [str(weights), "-o", str(bundle), "--config", str(config)])
            small = ["--crops", "8", "--gate-crops", "4", "--gate-frames", "5", "--force"]
            _command("jntrt.calib.cli", [str(bundle), "--data", str(clips), "--precision", "fp16", *small])
            paths.append(bundle)
    return paths


def _command(module: str, words: list[str]) -> None:
    start = f"import sys; from {module} import main; sys.exit(main())"
    run = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        print(f"{module} {' '.join(words)}: {run.stderr.strip()[-300:]}", file=sys.stderr)


def measure_bundle(device: Device, bundle: Bundle, calls: int) -> list[Row]:
    """All engines of this machine in fp32 and fp16 on one bundle, then torch."""
    frames = drawn_frames()
    wanted = forced_boxes(bundle, ("onnxruntime", "fp32", EngineOptions()), frames)
    rows = []
    for precision in [name for name in ("fp16", "fp32") if name in bundle.precisions]:
        for backend, own_graph in ENGINES:
            obstacle = backend_class(backend).obstacle(find_precision(precision))
            if obstacle:
                print(f"{bundle.name} {backend} {precision}: {obstacle}", file=sys.stderr)
                continue
            label = f"{backend} {precision}" + (", own graph" if own_graph else "")
            try:
                options = EngineOptions(own_graph=own_graph)
                engine = (backend, precision, options)
                row = measure_engine(device, bundle, engine, frames, wanted, calls)
                rows.append(replace(row, engine=label))
            except UserError as error:
                print(f"{bundle.name} {label}: {error}", file=sys.stderr)
    for label, launch, times in measure_torch(device, bundle, frames, calls):
        rows.append(Row(bundle.name, label, launch, times, None))
    return rows


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
    """One engine, four ways."""
    got = forced_boxes(bundle, engine, frames)
    backend, precision, options = engine
    with Tracker.from_bundle(bundle, backend, precision, options=options) as tracker:
        tracker.init(frames[0], [BOX] * bundle.batch)
        loop: DeviceLoop = tracker._loop  # type: ignore[assignment]  # these engines all bring one
        times = measure_loop(device, loop, frames, calls)
        launch = loop.launch
    return Row(bundle.name, f"{backend} {precision}", launch, times, float(np.abs(got - wanted).max()))


def print_rows(rows: list[Row]) -> None:
    """The table, 80 columns and more."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"milliseconds, p50 / p99, {WIDTH}×{HEIGHT}, batch as the bundle's")
    for heading in (
        "bundle",
        "engine",
        "device frame",
        "host frame",
        "whole upload",
        "network",
        "px off CPU",
    ):
        table.add_column(heading, justify="left" if heading in ("bundle", "engine") else "right")
    for row in rows:
        texts = ["–" if time is None else f"{time[0]:.3f} / {time[1]:.3f}" for time in row.times]
        table.add_row(row.bundle, row.engine, *texts, "–" if row.worst_px is None else f"{row.worst_px:.3f}")
    console = Console()
    console.print(table)
    for row in rows:
        console.print(f"{row.bundle} {row.engine}: launched as {row.launch}", soft_wrap=True)
    for line in aims(rows):
        console.print(line, soft_wrap=True)


def aims(rows: list[Row]) -> list[str]:
    """What each engine reached beside what was aimed at, medians: a line each."""
    eager = {row.bundle: row.times[3] for row in rows if row.engine == EAGER}
    lines = []
    for row in rows:
        device, host, _, network = row.times
        if device is None or host is None or network is None:
            continue
        text = f"{row.bundle} {row.engine}"
        for name, time in (("device frame", device), ("host frame", host)):
            text += f"; {name} = network {time[0] - network[0]:+.3f} ms (aim: at most {AIMS[name]})"
        whole = eager.get(row.bundle)
        if whole is not None:
            text += f"; {whole[0] / device[0]:.1f} times PyTorch eager (aim: at least {AIMS['eager']:.0f})"
        lines.append(text)
    return lines


if __name__ == "__main__":
    sys.exit(main())
