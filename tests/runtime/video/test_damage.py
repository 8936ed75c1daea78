"""Damaged videos: frames keep the numbers that they have in the source, and what is missing is told."""

import logging
from pathlib import Path

import av
import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.damage import Damage
from jntrt.runtime.video.numbering import Numbering
from jntrt.runtime.video.sources import frames
from jntrt.runtime.video.stream import Frames, StreamError

COUNT = 150
BAR = 8  # pixels per bit of the number that is drawn into each frame


def numbered_picture(number: int, scene: np.ndarray) -> np.ndarray:
    """A moving scene with `number` in eight black or white blocks on top."""
    picture = np.ascontiguousarray(scene[:90, 2 * number : 2 * number + 160])
    for bit in range(8):
        picture[:16, 16 * bit : 16 * bit + 16] = 255 * (number >> bit & 1)
    return picture


def number_in(picture: np.ndarray) -> int:
    return sum((picture[2:14, 16 * bit + 2 : 16 * bit + 14].mean() > 127) << bit for bit in range(8))


@pytest.fixture(scope="module", params=[".mkv", ".ts", ".mp4"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / f"clip{request.param}"
    scene = np.random.default_rng(0).integers(0, 255, (90, 160 + 2 * COUNT, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.options = {"crf": "23", "g": "25", "bf": "2"}
        for number in range(COUNT):
            picture = av.VideoFrame.from_ndarray(numbered_picture(number, scene), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def damaged(clip: Path, share: float, tmp_path: Path) -> Path:
    """The clip with 1500 bytes overwritten."""
    data = bytearray(clip.read_bytes())
    at = int(share * len(data))
    data[at : at + 1500] = np.random.default_rng(1).integers(0, 256, 1500, np.uint8).tobytes()
    path = tmp_path / f"damaged{clip.suffix}"
    path.write_bytes(data)
    return path


def test_a_sound_video_has_no_damage(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    with frames(clip, strict=True) as source:
        assert [(number, number_in(image)) for number, image in source.numbered()] == [
            (number, number) for number in range(COUNT)
        ]
        assert source.damage == Damage()
    assert caplog.text == ""


def test_numbers_stay_those_of_the_source(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = missing = 0
    shares = np.linspace(0.15, 0.85, 12)
    for share in shares:
        with frames(damaged(clip, share, tmp_path)) as source:
            seen = list(source.numbered())
        flawed = set(source.damage.flawed)
        spoilt = {n for first in flawed for n in range(first, first + 25)}  # until the next key frame
        spoilt |= {n for gap in source.damage.missing for n in range(gap.start, gap.stop + 25)}
        assert [number_in(image) for number, image in seen if number not in spoilt] == [
            number for number, _ in seen if number not in spoilt
        ]
        assert seen[-1][0] == COUNT - 1
        assert len(seen) + sum(map(len, source.damage.missing)) == COUNT
        told += bool(source.damage.lines())
        missing += bool(source.damage.missing)
    assert told >= 0.75 * len(shares)  # now and then the decoder takes any bytes for a picture
    assert missing > 0
    assert "missing: " in caplog.text


def first_damage(clip: Path, tmp_path: Path) -> Path:
    for share in np.linspace(0.3, 0.8, 20):
        path = damaged(clip, share, tmp_path)
        with frames(path) as source:
            for _ in source:
                pass
        if source.damage.missing:
            return path
    raise AssertionError("no frame was lost")


def test_strict_ends_there(clip: Path, tmp_path: Path) -> None:
    path = first_damage(clip, tmp_path)
    with frames(path, strict=True) as source, pytest.raises(StreamError, match="broken after") as error:
        exhaust(source)
    assert f"after {source.number + 1} frames" in str(error.value)


def exhaust(source: Frames) -> None:
    for _ in source:
        pass


def test_damage_in_words() -> None:
    assert Damage().lines() == []
    damage = Damage([range(3, 4), range(7, 10)], [10, 11, 15], ["it ends early"])
    assert damage.lines() == [
        "4 frames are missing: 3, 7 to 9",
        "3 frames are decoded from damaged data: 10 to 11, 15",
        "it ends early",
    ]
    many = Damage([range(n, n + 1) for n in range(0, 40, 2)]).lines()[0]
    assert many.startswith("20 frames are missing: 0, 2,")
    assert many.endswith("14 and more")


def test_gaps_without_damage_are_no_missing_frames() -> None:
    """A camera that pauses, and the second fields of interlaced video."""
    numbering = Numbering(None)
    for index, pts in enumerate([0, 40, 80, 500, 540]):
        numbering.announce(pts, damaged=False)
        numbering.announce(pts + 1, damaged=False)
        assert numbering.place(pts) == (index, 0)


def test_a_wild_time_stamp_is_no_gap_of_a_million_frames() -> None:
    from fractions import Fraction

    numbering = Numbering(Fraction(40))
    numbering.announce(0, damaged=False)
    assert numbering.place(0) == (0, 0)
    numbering.note_damage()
    numbering.announce(40_000_000_000, damaged=True)
    assert numbering.place(40_000_000_000) == (1, 0)
    numbering.announce(80, damaged=True)
    assert numbering.place(80) == (2, 0)


def test_frames_that_an_index_promises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The last packets are no pictures any more: MP4's index still counts them."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"bf": "0"}
        for index in range(20):
            noise = np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        last = [(packet.pos, packet.size) for packet in packets[-3:]]
    data = bytearray(path.read_bytes())
    for position, size in last:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING), frames(path) as source:
        assert [number for number, _ in source.numbered()] == list(range(17))
    assert "3 frames are missing: 17 to 19" in caplog.text
    with frames(path, strict=True) as source, pytest.raises(StreamError):
        exhaust(source)


def test_a_lost_start_and_a_lost_end_are_told(clip: Path, tmp_path: Path) -> None:
    """A transport stream begins where it likes, and Matroska ends anywhere: neither is an error to FFmpeg."""
    data = bytearray(clip.read_bytes())
    path = tmp_path / f"cut{clip.suffix}"
    if clip.suffix == ".ts":
        data[551:1403] = bytes(852)
        expected = "before frame 0 cannot be decoded"
    elif clip.suffix == ".mkv":
        del data[int(0.9 * len(data)) :]
        expected = "the file may be truncated"
    else:
        path.write_bytes(data[: int(0.9 * len(data))])  # its index lies behind the pictures
        with pytest.raises(UserError, match="truncated"):
            frames(path)
        return
    path.write_bytes(data)
    with frames(path) as source:
        exhaust(source)
    assert any(expected in line for line in source.damage.lines())
