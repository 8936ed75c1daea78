"""Whole synthetic sequences on disk, in GOT-10k layout with `absence.label`: the validation set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from jntrt.runtime.errors import UserError
from jntrt.train.data.assets import Assets
from jntrt.train.data.infrared import InfraredCamera
from jntrt.train.data.synthetic import FRAME, Absence, random_video

QUALITY = 92  # of the JPEG frames
FPS = 30  # what a second of absence means
BEFORE = (1.0, 1.5)  # seconds of the target before it goes
AWAY = (1.0, 5.0)  # seconds
AFTER = 2.0  # seconds at least


def write_sequences(
    data: Path,
    folder: Path,
    count: int = 50,
    frames: int = 60,
    seed: int = 2026,
    *,
    scenes: str = "ordinary",
    look: str = "daylight",
    held_out: bool = True,
) -> None:
    """Renders `count` sequences from the held-out part of `data` (images/, masks/) into `folder`.

    The same seed gives the same frames. In an absent frame the ground truth is 0,0,0,0 and the label 1.
    scenes: "vanishing", in which every target is away for 1 to 5 s and comes back elsewhere, "staying", in
    which none leaves, both with a distractor of its kind, or "ordinary". look: "infrared", each sequence
    through a thermal camera of its own, or "daylight".
    UserError when the folder has sequences already.
    """
    least = round(FPS * (BEFORE[1] + AWAY[1] + AFTER)) if scenes == "vanishing" else 30
    if frames < least:
        raise UserError(f"--frames {frames}: such a sequence has at least {least} frames")
    if count < 1 or seed < 0:
        raise UserError("--count has to be at least 1, --seed at least 0")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; give a new folder, or remove it")
    assets = Assets.load(data / "images", data / "masks", held_out=held_out)
    kind = "synthetic" if scenes == "ordinary" else scenes
    names = [f"{kind}_{number:03d}" for number in range(count)]
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        camera = InfraredCamera(np.random.default_rng((seed, number, 1))) if look == "infrared" else None
        target = folder / names[number]
        target.mkdir(parents=True)
        boxes, absent = [], []
        for index, shot in enumerate(random_video(assets, rng, frames, _absence(scenes, frames, rng))):
            image = shot.view.render((0.0, 0.0), FRAME, FRAME, rng)
            image = image if camera is None else camera.shown(image, rng)
            cv2.imwrite(
                str(target / f"{index + 1:08d}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            )
            boxes.append(shot.box or (0.0, 0.0, 0.0, 0.0))
            absent.append(shot.box is None)
        lines = [",".join(f"{v:.2f}" for v in box) for box in boxes]
        (target / "groundtruth.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (target / "absence.label").write_text("".join(f"{int(a)}\n" for a in absent), encoding="utf-8")
    (folder / "list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _absence(scenes: str, frames: int, rng: np.random.Generator) -> Absence | None:
    if scenes == "ordinary":
        return None
    if scenes == "staying":
        return Absence(frames, frames)
    first = round(FPS * rng.uniform(*BEFORE))
    return Absence(first, first + round(FPS * rng.uniform(*AWAY)))
