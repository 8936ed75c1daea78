"""Annotated videos: whole or absent, and readable by others."""

import os
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.writer import Encoding, VideoWriter, encoders


def ramp(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    image[..., 2] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return image


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_video_plays_in_browsers(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, Fraction(30000, 1001)) as writer:
        for _ in range(7):
            writer.write(ramp(*size))
        assert not path.exists()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert abs(float(stream.average_rate) - 29.97) < 0.05
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(images) == 7
    assert images[0].shape == (48, 64, 3)
    assert np.abs(images[3][: size[0], : size[1]].astype(int) - ramp(*size)).mean() < 6
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".mp4":
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")


def test_a_video_survives_an_error_of_the_caller(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", None) as writer:
        writer.write(ramp(48, 64))
        raise KeyboardInterrupt
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1


def test_an_error_of_the_encoder_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def grow() -> None:
        with VideoWriter(tmp_path / "out.mp4", None) as writer:
            writer.write(ramp(48, 64))
            for _ in range(20):
                writer.write(ramp(48, 96))

    with pytest.raises(UserError, match=r"out\.mp4: the video cannot be written .*96×48"):
        grow()
    assert list(tmp_path.iterdir()) == []


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", None):
        pass
    assert list(tmp_path.iterdir()) == []


def size_of(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        return container.streams.video[0].height, container.streams.video[0].width


def test_another_height(tmp_path: Path) -> None:
    scales = []

    def draw(picture: np.ndarray, scale: float) -> np.ndarray:
        scales.append(scale)
        assert picture.shape == (24, 32, 3)
        return picture

    with VideoWriter(tmp_path / "out.mp4", None, Encoding(height=24)) as writer:
        writer.write(ramp(48, 64), draw)
    assert size_of(tmp_path / "out.mp4") == (24, 32)
    assert scales == [0.5]


def test_a_slow_preset_makes_a_smaller_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    scene = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    for preset in ("ultrafast", "medium"):
        with VideoWriter(tmp_path / f"{preset}.mp4", None, Encoding(preset=preset)) as writer:
            for index in range(20):
                writer.write(np.roll(scene, 3 * index, axis=1))
    sizes = [(tmp_path / f"{preset}.mp4").stat().st_size for preset in ("medium", "ultrafast")]
    assert sizes[0] < sizes[1]


def test_another_encoder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "libx264" in encoders()
    with VideoWriter(tmp_path / "out.mp4", None, Encoding("libx265")) as writer:
        writer.write(ramp(48, 64))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "hevc"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
@pytest.mark.parametrize("count", [1, 2])
def test_few_frames_in_memory_that_is_not_zero(tmp_path: Path, encoder: str, count: int) -> None:
    """x265 takes dts from memory that it has not written where there are fewer frames than it may reorder.

    At 20000 frames a second the muxer scales no time stamp: what is read there reaches its check.
    """
    script = (
        "import sys; from fractions import Fraction; from pathlib import Path; import numpy as np\n"
        "from jntrt.runtime.video.writer import Encoding, VideoWriter\n"
        "with VideoWriter(Path(sys.argv[1]), Fraction(20000), Encoding(sys.argv[2], 'medium')) as writer:\n"
        "    for number in range(int(sys.argv[3])):\n"
        "        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))\n"
    )
    path = tmp_path / "out.mp4"
    words = [sys.executable, "-c", script, str(path), encoder, str(count)]
    subprocess.run(words, env=os.environ | {"MALLOC_PERTURB_": "254"}, check=True, timeout=120)
    with av.open(str(path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
        assert times == list(range(count))


def test_encodings_that_there_are_not() -> None:
    for words, message in [
        ({"encoder": "mpeg9"}, "--save-encoder mpeg9: not in this FFmpeg, which has .*libx264"),
        ({"preset": "fastest"}, "--save-preset fastest: say one of ultrafast"),
        ({"height": 8}, "--save-height 8"),
    ]:
        with pytest.raises(UserError, match=message):
            Encoding(**words)  # type: ignore[arg-type]


def test_a_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter(Path("12:30.mp4"), None) as writer:
        writer.write(ramp(48, 64))
    assert size_of(Path("./12:30.mp4").absolute()) == (48, 64)
