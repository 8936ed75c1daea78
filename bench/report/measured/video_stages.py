"""What is beside the tracker in a run with `--save`: drawing on a frame, encoding it."""

import time
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jntrt.bench.report.measured.engines import DIGITS
from jntrt.runtime.video.drawing import annotate
from jntrt.runtime.video.sources import frames
from jntrt.runtime.video.writer import VideoWriter

ROUNDS = 5
FRAMES = 20
Box = tuple[float, float, float, float]


def video_stages(source: str, box: Box) -> dict[str, Any]:
    """Milliseconds a frame of drawing and of encoding as `trtrun --save` does, medians over rounds.

    source: the video whose first frames are drawn on; box: x, y, w, h in pixels.
    """
    with frames(Path(source), ahead=0) as reader:
        pictures = [picture for _, picture in zip(range(FRAMES), reader, strict=False)]
    boxes = [np.array(box)]
    drawing, encoding = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        drawn = [annotate(picture, boxes, [0.9], [False], 100.0) for picture in pictures]
        drawing.append((time.perf_counter() - begin) * 1e3 / len(pictures))
        with TemporaryDirectory(prefix="jntrt-bench-") as folder:
            begin = time.perf_counter()
            with VideoWriter(Path(folder) / "drawn.mp4", Fraction(30)) as writer:
                for picture in drawn:
                    writer.write(picture)
            encoding.append((time.perf_counter() - begin) * 1e3 / len(pictures))
    height, width = pictures[0].shape[:2]
    return {
        "width": width,
        "height": height,
        "rounds": ROUNDS,
        "frames_per_round": len(pictures),
        "draw_ms": round(float(np.median(drawing)), DIGITS),
        "encode_ms": round(float(np.median(encoding)), DIGITS),
    }
