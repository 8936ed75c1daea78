"""Pairs without a target: a region of a picture, seen twice. What a fine-tuned network stays itself on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from jntrt.bench.sequences.clips import IMAGE_SUFFIXES, Clip
from jntrt.bench.sequences.pixels import read_image
from jntrt.runtime.errors import UserError
from jntrt.train.data.assets import MIN_PHOTO, displacement
from jntrt.train.data.scene import Image, Pose, View
from jntrt.train.data.synthetic import FRAME, Shot, region_camera, visible_part

LONGEST = 640  # pixels of a picture's side: regions are seen at 24 to 120 px
MOST = 300  # pictures in memory


class Regions:
    """Draws pairs of a region of a picture."""

    def __init__(self, pictures: Sequence[Image]) -> None:
        if not pictures:
            raise UserError("no picture to keep the network itself on: give a folder of them with --pictures")
        self._pictures = pictures

    def draw(self, rng: np.random.Generator) -> tuple[Shot, Shot]:
        """Two moments of one region: moved, scaled and lit a little differently."""
        picture, bend = self._pictures[int(rng.integers(len(self._pictures)))], displacement(rng)
        size = math.exp(rng.uniform(math.log(24), math.log(120)))
        x, y = rng.uniform(0.2, 0.8, 2) * FRAME
        first = Pose(float(x), float(y), size, rng.normal(0, 0.2), 0.0, bool(rng.random() < 0.5))
        moved = rng.normal(0, 0.4 * size, 2)
        second = replace(
            first, x=first.x + moved[0], y=first.y + moved[1], size=size * math.exp(rng.normal(0, 0.15))
        )
        shots = []
        for pose in (first, second):
            camera, box = region_camera(picture, bend, pose)
            gain = rng.uniform(0.85, 1.15)
            view = View(picture, camera, [], *FRAME, gain=(gain, gain, gain))
            shots.append(Shot(view, visible_part(box), region=True))
        return shots[0], shots[1]


def read_pictures(folder: Path) -> list[Image]:
    """Up to 300 pictures of `folder`, evenly taken; UserError where there are none, or one cannot be read."""
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    found = _usable(read_image(path) for path in paths[:: max(1, math.ceil(len(paths) / MOST))])
    if not found:
        raise UserError(f"--pictures {folder}: no picture of {MIN_PHOTO} px or more in it")
    return found


def pictures_of(clips: Sequence[Clip]) -> list[Image]:
    """The first frame of each clip, for want of other pictures."""
    return _usable(next(clip.frames()) for clip in clips[:MOST])


def _usable(pictures: Iterable[Image]) -> list[Image]:
    found = []
    for picture in pictures:
        scale = LONGEST / max(picture.shape[:2])
        if scale < 1:
            picture = np.asarray(
                cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        if min(picture.shape[:2]) >= MIN_PHOTO:
            found.append(picture)
    return found
