"""Bundles of the toy, as its entry among the families makes them possible, and a clip that it can follow."""

import cv2
import numpy as np
from safetensors.torch import save_file

from jntrt.export import families
from jntrt.export.pipeline import export_checkpoint
from jntrt.runtime.bundle import Bundle

from .family import Recipe, plain

SQUARE = (20.0, 16.0)  # w, h of the target


def join_families(monkeypatch):
    """The one entry of a family more."""
    monkeypatch.setitem(families.FAMILIES, "toy", __package__)


def seeing_grey():
    """The plain form whose mixture is the mean of the colours: no training is needed for that."""
    model = plain(Recipe(32, 64))
    model.toy["mix"].weight.data.fill_(1 / 3)
    model.toy["mix"].bias.data.zero_()
    return model


def write_toy(folder, batch=1):
    """The bundle of `seeing_grey`."""
    folder.mkdir()
    save_file(seeing_grey().state_dict(), folder / "toy.safetensors")
    export_checkpoint(folder / "toy.safetensors", folder / "bundle", batch=batch)
    return Bundle.open(folder / "bundle")


def leaving_square(count=24, seed=5):
    """Frames 96×64 with a chequered square that leaves them on the right, and its whole boxes."""
    texture = (
        np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    )
    frames, boxes = [], []
    for number in range(count):
        wide = np.full((64, 120, 3), (60, 90, 120), np.uint8)
        x, y = 8 + 4 * number, 10 + number
        wide[y : y + 16, x : x + 20] = texture
        frames.append(np.ascontiguousarray(wide[:, :96]))
        boxes.append((x, y, *SQUARE))
    return frames, np.array(boxes, np.float64)


def write_clips(root, names="ABC", count=18):
    """`leaving_square`s as GOT-10k folders, each with colours of its own, as far as they are in the frame."""
    for seed, name in enumerate(names):
        (root / name).mkdir(parents=True)
        frames, boxes = leaving_square(count, seed)
        for number, frame in enumerate(frames, start=1):
            cv2.imwrite(str(root / name / f"{number:08d}.png"), frame[..., ::-1])
        np.savetxt(root / name / "groundtruth.txt", boxes, fmt="%g", delimiter=",")
    return root
