"""Tiny sequences and trackers for the bench's tests."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jntrt.bench.sequences.evaluate import Contestant

WIDTH, HEIGHT = 96, 64


def write_got10k(
    root: Path, names: tuple[str, ...] = ("A", "B"), frames: int = 8, absent: bool = False
) -> Path:
    """A GOT-10k subset folder: a textured square that moves over a gradient."""
    rng = np.random.default_rng(5)
    texture = rng.integers(0, 255, (16, 20, 3), dtype=np.uint8)
    for k, name in enumerate(names):
        folder = root / name
        folder.mkdir(parents=True)
        boxes, cover, absence = [], [], []
        for number in range(frames):
            image = np.tile(np.linspace(20, 120, WIDTH, dtype=np.uint8)[None, :, None], (HEIGHT, 1, 3))
            x, y = 8 + 4 * number, 10 + k + number
            gone = absent and number % 4 == 3
            if not gone:
                image[y : y + 16, x : x + 20] = texture
            cv2.imwrite(str(folder / f"{number + 1:08d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            boxes.append(f"{x},{y},20,16")
            cover.append("0" if number == 5 or gone else "8")
            absence.append("1" if gone else "0")
        (folder / "groundtruth.txt").write_text("\n".join(boxes) + "\n")
        (folder / "cover.label").write_text("\n".join(cover) + "\n")
        (folder / "absence.label").write_text("\n".join(absence) + "\n")
        (folder / "cut_by_image.label").write_text("\n".join("0" for _ in boxes) + "\n")
        (folder / "meta_info.ini").write_text(f"[METAINFO]\nurl: none\nresolution: ({WIDTH}, {HEIGHT})\n")
    (root / "list.txt").write_text("\n".join(names) + "\n")
    return root


@dataclass
class FakeResult:
    box: np.ndarray
    score: float


class DriftingTracker:
    """Follows the squares of `write_got10k` with an error that grows, partly out of the image."""

    def __init__(self, drift: float = 1.5) -> None:
        self.drift = drift
        self.updates = 0

    def init(self, frame: np.ndarray, box: Any) -> None:
        self.box = np.array(box, dtype=np.float64)

    def update(self, frame: np.ndarray) -> FakeResult:
        self.updates += 1
        self.box = self.box + np.array([4 - self.drift, 1 - 2 * self.drift, 0.3, 0])
        seen = frame[..., 0].astype(float).std() > 32
        return FakeResult(self.box, 0.9 if seen else 0.1)


def contestant(name: str, tracker: Any, **identity: Any) -> Contestant:
    """A contestant around a ready-made tracker."""
    opener: Callable[[], Any] = lambda: nullcontext(tracker)  # noqa: E731
    return Contestant(name, {"fake": name, **identity}, opener)
