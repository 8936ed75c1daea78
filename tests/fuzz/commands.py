"""The commands that write, each at a small size: how it is called, and what must hold after any stop."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from safetensors.numpy import load_file

from jntrt.bench.sequences.clips import load_clips
from jntrt.runtime.bundle import Bundle

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "calib"))

from tiny_tracker import tiny_recipe, write_sequences, write_tiny  # noqa: E402

CHECKPOINTS = HERE.parent / "data" / "golden" / "checkpoints"
FRAMES = 150

TRAINING = """\
family: ostrack
recipe: {family: jn, template_size: 32, template_factor: 2.0, search_size: 64, search_factor: 4.0, dim: 32,
  depth: 2, heads: 2, mlp_dim: 64, head: distribution, head_channels: 16, bins: 17, quality_dim: 16,
  target_hidden: 4, ce_layers: [1], keep_ratio: [0.7]}
steps: 30
batch: 4
synthetic: 0.0
"""


@dataclass(frozen=True)
class Command:
    """`words`: of the command line. `sound` looks at the folder after a stop; `whole` after a full run.

    `repeated` makes the next full run a new one.
    """

    words: list[str]
    sound: Callable[[], None]
    whole: Callable[[], None]
    repeated: Callable[[], None] = lambda: None


def export(folder: Path) -> Command:
    bundle = folder / "bundle"

    def sound() -> None:
        if bundle.exists():
            Bundle.open(bundle).verify()

    def whole() -> None:
        assert [path.name for path in folder.iterdir()] == ["bundle"]
        Bundle.open(bundle).verify()

    words = ["export", str(CHECKPOINTS / "tiny_good.pth.tar"), "-o", str(bundle)]
    return Command([*words, "--config", str(CHECKPOINTS / "tiny.config.yaml")], sound, whole)


def calibrate(folder: Path) -> Command:
    data, bundle = write_sequences(folder / "data"), write_tiny(folder / "bundle", tiny_recipe())

    def sound() -> None:
        opened = Bundle.open(bundle.path)
        opened.verify()
        assert opened.precisions in (("fp32",), ("fp32", "fp16"))
        for record in bundle.path.glob("calibration.json"):
            json.loads(record.read_text())

    def whole() -> None:
        sound()
        assert Bundle.open(bundle.path).precisions == ("fp32", "fp16")
        names = {"template", "template.fp16", "track", "track.fp16"}
        files = {path.name for path in bundle.path.iterdir()} - {f"{name}.onnx" for name in names}
        assert {name for name in files if not name.startswith("t")} == {
            *("bundle.json", "calibration.json", "calibration.html"),
        }

    words = ["calib", str(bundle.path), "--data", str(data), "--precision", "fp16", "--crops", "20"]
    more = ["--gate-crops", "8", "--gate-frames", "8", "--threads", "1", "--min-iou", "0", "--max-ao", "1"]
    return Command([*words, *more], sound, whole)


def track(folder: Path) -> Command:
    video, boxes, saved = folder / "clip.mp4", folder / "boxes.txt", folder / "saved.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        scene = np.random.default_rng(0).integers(0, 255, (120, 160 + FRAMES, 3), np.uint8)
        for number in range(FRAMES):
            picture = np.ascontiguousarray(scene[:, number : number + 160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))

    def sound() -> None:
        """What has its name is whole; a killed run's boxes are in its part, every line but the last."""
        for path in (boxes, *folder.glob(".boxes.txt.*.part")):
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            assert all(line.count(",") == 3 for line in lines[:-1])
        if boxes.exists():
            assert lines_of(boxes) >= 1
        if saved.exists():
            with av.open(str(saved)) as container:
                assert sum(1 for _ in container.decode(video=0)) >= 1

    def whole() -> None:
        sound()
        assert {path.name for path in folder.iterdir()} == {"clip.mp4", "boxes.txt", "saved.mp4"}
        assert lines_of(boxes) == FRAMES

    words = ["runtime.trtrun", str(video), "--init", "60,40,30,30", "--out", str(boxes), "--overwrite"]
    return Command([*words, "--save", str(saved), "--threads", "1"], sound, whole)


def lines_of(path: Path) -> int:
    content = path.read_text()
    assert content.endswith("\n")
    return content.count("\n")


def measure(folder: Path) -> Command:
    data, out = write_sequences(folder / "data", frames=20), folder / "out"
    clips = {clip.name: clip for clip in load_clips(data)}

    def sound() -> None:
        for done in out.rglob("done.json"):
            json.loads(done.read_text())
            lines = lines_of(done.with_name(f"{done.parent.name}_001.txt"))
            assert lines == len(clips[done.parent.name])
        for report in out.glob("report.json"):
            json.loads(report.read_text())
        for plot in out.glob("success.png"):
            assert cv2.imread(str(plot)) is not None

    def whole() -> None:
        sound()
        assert {path.name for path in out.iterdir()} == {"GOT-10k", "report.json", "success.png"}
        files = [path for path in out.rglob("*") if path.is_file()]
        assert len(files) == 2 + 4 * 2 * len(clips)

    def repeated() -> None:
        for done in out.rglob("done.json"):
            done.unlink()

    words = ["bench", "accuracy", "--baseline", "static,ncc", "--data", str(data), "--out", str(out)]
    return Command(words, sound, whole, repeated)


def train(folder: Path) -> Command:
    data, out, config = write_sequences(folder / "data"), folder / "run", folder / "tiny.yaml"
    config.write_text(TRAINING)

    def sound() -> None:
        for notes in out.glob("state.json"):
            load_file(out / json.loads(notes.read_text())["tensors"])
        for weights in out.glob("weights.safetensors"):
            load_file(weights)

    def whole() -> None:
        sound()
        names = {"log.csv", "state.json", "step-30.safetensors", "weights.safetensors"}
        assert {path.name for path in out.iterdir()} == names

    def repeated() -> None:
        for path in out.iterdir():
            path.unlink()

    words = ["train", "--config", str(config), "--data", str(data), "--out", str(out), "--workers", "0"]
    return Command([*words, "--threads", "1"], sound, whole, repeated)


COMMANDS = {"export": export, "calib": calibrate, "trtrun": track, "bench": measure, "train": train}
