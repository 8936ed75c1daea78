"""A clip that the bench draws itself, so that a latency figure needs no file: 1080p, H.264."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS = 1920, 1080, 30
FRAMES = 30  # read over and over
BOX = (880.0, 480.0, 160.0, 120.0)  # of the target in every frame; the camera moves, the target does not


def write_clip(path: Path, frames: int = FRAMES) -> None:
    """Write a seeded clip to `path`: smooth textures that drift behind a target that stands at `BOX`."""
    import av

    background = _texture(HEIGHT + 2 * frames, WIDTH + 4 * frames, seed=1)
    x, y, w, h = (int(value) for value in BOX)
    target = _texture(h, w, seed=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            image = background[2 * number :, 4 * number :][:HEIGHT, :WIDTH].copy()
            image[y : y + h, x : x + w] = target
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _texture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    import cv2

    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8
    )
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
