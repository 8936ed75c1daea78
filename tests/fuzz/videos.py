"""A child of `isolated`: COUNT damaged videos and images are tracked through by trtrun.

A loss that is not told is bad too: fewer frames than there were and than the header promises, no word and
exit code 0.
"""

import io
import json
import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
from isolated import attempts
from mutate import damage

COUNT = 40  # frames of a clip
WIDTH, HEIGHT = 96, 64
CLIPS = {  # encoder, pixel format, options
    ".mp4": ("libx264", "yuv420p", {"g": "10", "bf": "2"}),
    ".mkv": ("libx264", "yuv420p", {"g": "10", "bf": "2"}),
    ".ts": ("libx264", "yuv420p", {"g": "10", "bf": "0"}),
    ".avi": ("mpeg4", "yuv420p", {}),
    ".gif": ("gif", "rgb8", {}),
    ".y4m": ("wrapped_avframe", "yuv420p", {}),
}
IMAGES = (".png", ".jpg", ".bmp", ".webp", ".tif")


def picture(number: int) -> np.ndarray:
    """A scene that moves behind a grey square; H×W×3 uint8."""
    scene = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH + 2 * COUNT, 3), np.uint8)
    image = cv2.GaussianBlur(scene, (5, 5), 2)[:, number : number + WIDTH].copy()
    image[20:40, 30 + number // 2 : 50 + number // 2] = 128
    return image


def write_clips(folder: Path) -> None:
    for suffix, (encoder, form, options) in CLIPS.items():
        with av.open(
            str(folder / f"clip{suffix}"), "w", format="yuv4mpegpipe" if suffix == ".y4m" else None
        ) as container:
            stream = container.add_stream(encoder, rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, form, options
            for number in range(COUNT):
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                container.mux(stream.encode(frame.reformat(format=form)))
            container.mux(stream.encode(None))


def spoil(content: bytes, draw: random.Random) -> bytes:
    """Small changes anywhere, the end cut off, or a piece overwritten."""
    match draw.randrange(3):
        case 0:
            return damage(content, draw)
        case 1:
            return content[: draw.randrange(1, len(content))]
    at, length = draw.randrange(len(content)), draw.randint(100, 3000)
    return content[:at] + draw.randbytes(min(length, len(content) - at)) + content[at + length :]


def track(source: Path) -> tuple[int, str]:
    """trtrun's frames on `source` and what it said beside its summary. Raises UserError."""
    from jntrt.runtime.trtrun.cli import app

    lines, said = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    words = [str(source), "--init", "30,20,20,20", "--json", "--threads", "1", "--backend", "onnxruntime"]
    try:
        with redirect_stdout(lines), redirect_stderr(io.StringIO()):
            app(words, exit_on_error=False, print_error=False, result_action="return_value")
    finally:
        logging.getLogger().removeHandler(handler)
    rows = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [row["frame"] for row in rows] == sorted({row["frame"] for row in rows})
    return len(rows), said.getvalue()


def promised(source: Path) -> int:
    """What the damaged header still promises; nothing where it says nothing."""
    from jntrt.runtime.video.sources import frames

    with frames(source, ahead=0) as opened:
        return opened.length or 0


def main(clips: Path, seed: int, count: int) -> None:
    if not any(clips.iterdir()):
        write_clips(clips)

    def attempt(name: str) -> None:
        draw = random.Random(f"{seed} {name}")
        with TemporaryDirectory() as folder:
            if draw.random() < 0.25:
                source, there = Path(folder), 3
                suffix, bad = draw.choice(IMAGES), draw.randrange(3)
                for number in range(there):
                    content = cv2.imencode(suffix, picture(number))[1].tobytes()
                    (source / f"{number}{suffix}").write_bytes(
                        spoil(content, draw) if number == bad else content
                    )
            else:
                suffix, there = draw.choice(list(CLIPS)), COUNT
                source = Path(folder) / f"clip{suffix}"
                source.write_bytes(spoil((clips / source.name).read_bytes(), draw))
            seen, said = track(source)
            due = min(there, promised(source))
        assert seen >= due or said, f"{suffix}: {seen} of {due} frames, and not a word"

    def names() -> Iterator[str]:
        for number in range(int(os.environ["JNTRT_FUZZ_FROM"]), count):
            yield f"video {number}"

    attempts(names(), attempt)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
