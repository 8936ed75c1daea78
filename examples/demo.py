"""The whole path on one machine, in a minute or two: checkpoint → bundle → boxes, video and latency.

Draws a clip, writes a tiny checkpoint of random weights for every family, exports them, tracks the clip
with them and with the packaged bundles, and times them all. All by the commands that a user types; they are
printed as they run. Everything lands in `demo/`.

    python examples/demo.py [folder]
"""

import shlex
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import save_file

from jntrt.export.families import FAMILIES, family, folder_name
from jntrt.runtime.bundle.packaged import packaged_names
from jntrt.runtime.video.writer import VideoWriter

Image = npt.NDArray[np.uint8]

WIDTH, HEIGHT, FRAMES, FPS = 640, 360, 120, 30


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    say(f"Drawing {FRAMES} frames into {folder}/clip.mp4")
    draw_clip(folder)

    names = dict.fromkeys(map(folder_name, FAMILIES))
    say("Checkpoints of random weights: they show the path, they are untrained and cannot track.")
    bundles: dict[str, str | Path] = {}
    for name in names:
        checkpoint, config = write_checkpoint(folder, name)
        bundles[name] = folder / name
        command("export-jn", checkpoint, "--config", config, "-o", bundles[name], "--trained", "no")
    bundles |= {name: name for name in packaged_names()}
    for name, bundle in bundles.items():
        inputs = [folder / "clip.mp4", "--init-file", folder / "groundtruth.txt", "--bundle", bundle]
        outputs = ["--out", folder / f"{name}.txt", "--save", folder / f"{name}.mp4", "--overwrite"]
        command("trtrun", *inputs, *outputs)
    first = (folder / "groundtruth.txt").read_text().splitlines()[0]
    command("bench-jn", "latency", *bundles.values(), "--video", folder / "clip.mp4", "--init", first)

    say("Overlap with the drawn target, mean over the clip:")
    truth = np.loadtxt(folder / "groundtruth.txt", delimiter=",")
    for name in bundles:
        boxes = np.loadtxt(folder / f"{name}.txt", delimiter=",")
        remark = "" if name in packaged_names() else "  (untrained, random weights)"
        print(f"  {name:12}  {overlap(boxes, truth).mean():.2f}{remark}")
    say("Annotated videos: " + ", ".join(str(folder / f"{name}.mp4") for name in bundles))
    return 0


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def command(name: str, *words: str | Path) -> None:
    """Run one of the project's commands; where it fails, the demo ends with its exit code."""
    line = [name, *(str(word) for word in words)]
    say(f"$ {shlex.join(line)}")
    began = time.perf_counter()
    code = subprocess.run([str(Path(sys.executable).with_name(name)), *line[1:]], check=False).returncode
    if code:
        sys.exit(code)
    print(f"  ({time.perf_counter() - began:.1f} s)", flush=True)


# --- checkpoints


def write_checkpoint(folder: Path, name: str) -> tuple[Path, Path]:
    """Seeded random weights of the family's tiny network, and the experiment file that goes with them."""
    kind = family(name)
    recipe = kind.NETWORKS["tiny"]
    torch.manual_seed(1)
    checkpoint, config = folder / f"{name}_random.safetensors", folder / f"{name}_random.yaml"
    save_file(kind.plain(recipe).state_dict(), checkpoint)
    config.write_text(yaml.safe_dump(kind.experiment(recipe)))
    return checkpoint, config


# --- the clip


def draw_clip(folder: Path) -> None:
    """Writes clip.mp4, a patterned disc moving and turning over a panning scene, and its boxes."""
    random = np.random.default_rng(7)
    scene = texture(random, HEIGHT + 120, WIDTH + 160, (58, 84, 66), (148, 160, 128))
    target = texture(random, 160, 160, (205, 66, 40), (252, 206, 92), detail=3)
    cv2.circle(target, (52, 60), 20, (30, 60, 150), -1, cv2.LINE_AA)
    cv2.circle(target, (112, 96), 26, (245, 245, 240), -1, cv2.LINE_AA)
    boxes = []
    with VideoWriter(folder / "clip.mp4", Fraction(FPS)) as video:
        for index in range(FRAMES):
            phase = 2 * np.pi * index / FRAMES
            left, top = 80 + 70 * np.sin(phase), 60 + 50 * np.sin(2 * phase)
            frame = shifted(scene, left, top)
            centre = (WIDTH * (0.5 + 0.33 * np.sin(phase)), HEIGHT * (0.5 + 0.25 * np.sin(2 * phase + 0.5)))
            radii = (38 * (1 + 0.25 * np.sin(phase)), 30 * (1 + 0.25 * np.sin(phase)))
            boxes.append(paste(frame, target, centre, radii, 50 * np.sin(phase)))
            noise = random.normal(0, 3, frame.shape)
            video.write(np.clip(frame + noise, 0, 255).astype(np.uint8))
    np.savetxt(folder / "groundtruth.txt", boxes, fmt="%.3f", delimiter=",")


def texture(
    random: np.random.Generator,
    height: int,
    width: int,
    dark: tuple[int, int, int],
    light: tuple[int, int, int],
    detail: int = 4,
) -> Image:
    """Clouds between two colours: noise of several sizes, one over the other."""
    clouds = np.zeros((height, width), np.float32)
    for octave in range(detail):
        cells = 2 ** (octave + 2)
        noise = random.normal(0, 1, (cells, cells * width // height + 1)).astype(np.float32)
        clouds += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / (1 + octave)
    share = ((clouds - clouds.min()) / np.ptp(clouds))[..., None]
    return np.ascontiguousarray(np.array(dark) * (1 - share) + np.array(light) * share).astype(np.uint8)


def shifted(scene: Image, left: float, top: float) -> Image:
    """The WIDTH×HEIGHT window of the scene whose corner is there, between pixels too."""
    window = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
    return cv2.warpAffine(scene, window, (WIDTH, HEIGHT))  # type: ignore[return-value]


def paste(
    frame: Image, target: Image, centre: tuple[float, float], radii: tuple[float, float], degrees: float
) -> tuple[float, float, float, float]:
    """Draws the target as a turned ellipse into the frame; its tight box (x, y, w, h)."""
    side = len(target)
    turn = np.deg2rad(degrees)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * radii
    matrix = np.column_stack([axes / (side / 2), np.array(centre) - axes.sum(1)])
    size = (frame.shape[1], frame.shape[0])
    mask = np.zeros((side, side), np.float32)
    cv2.circle(mask, (side // 2, side // 2), side // 2 - 1, 1.0, -1, cv2.LINE_AA)
    alpha = cv2.warpAffine(mask, matrix, size)[..., None]
    frame[:] = (frame * (1 - alpha) + cv2.warpAffine(target, matrix, size) * alpha).astype(np.uint8)
    half = np.hypot(axes[:, 0], axes[:, 1])  # of a turned ellipse's box
    return centre[0] - half[0], centre[1] - half[1], 2 * half[0], 2 * half[1]


def overlap(boxes: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of two lists of boxes (N×4: x, y, w, h)."""
    low = np.maximum(boxes[:, :2], truth[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], truth[:, :2] + truth[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    return common / (np.prod(boxes[:, 2:], axis=1) + np.prod(truth[:, 2:], axis=1) - common)


if __name__ == "__main__":
    sys.exit(main())
