"""How a cheap thermal camera would show a clip: one channel, few pixels, stripes and noise."""

from __future__ import annotations

import cv2
import numpy as np

from jntrt.train.data.scene import Image

COARSE = 2  # frame pixels per pixel of the sensor
SOFT = 0.8  # of its pixels: standard deviation of the lens's blur


class InfraredCamera:
    """Draws one camera: which colours are warm, its contrast, stripes and noise. They stay over a clip."""

    def __init__(self, rng: np.random.Generator) -> None:
        warmth = rng.normal(size=3)  # of red, green and blue; negative where the bright is cold
        self._warmth = (warmth / np.abs(warmth).sum()).astype(np.float32)
        self._contrast = rng.uniform(0.6, 1.2)
        self._stripe, self._noise = rng.uniform(2, 5), rng.uniform(4, 9)  # grey levels
        self._seed = int(rng.integers(2**32))

    def shown(self, frame: Image, rng: np.random.Generator) -> Image:
        """`frame` (H×W×3 RGB) as this camera shows it, H×W×3 with equal channels and the mean at mid-grey."""
        height, width = frame.shape[:2]
        size = (max(1, width // COARSE), max(1, height // COARSE))
        heat = cv2.resize(frame.astype(np.float32) @ self._warmth, size, interpolation=cv2.INTER_AREA)
        heat = cv2.GaussianBlur(heat, (0, 0), SOFT)
        columns = np.random.default_rng(self._seed).standard_normal(size[0], dtype=np.float32)
        grey = 128 + self._contrast * (heat - heat.mean()) + self._stripe * columns
        grey += self._noise * rng.standard_normal(grey.shape, dtype=np.float32)
        fine = cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.repeat(np.clip(fine, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
