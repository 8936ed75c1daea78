"""Frame sources: every kind gives the same frames, every failure is one line."""

import time
from collections.abc import Generator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from threading import Event, Timer

import av
import cv2
import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.decode_ahead import Ahead
from jntrt.runtime.video.sources import frames
from jntrt.runtime.video.stream import Frames, Opened, StreamError


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A frame whose colour tells its number: red 10·index (modulo 250), green 100, blue 200."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = (10 * index % 250, 100, 200)
    return image


def write_video(path: Path, count: int = 12, rotation: int = 0, index_in_front: bool = False) -> Path:
    options = {"movflags": "faststart"} if index_in_front else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"crf": "10", "bf": "0", "g": "4"}
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(count):
            noise = np.random.default_rng(index).integers(0, 60, (48, 64, 3), np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture(index) // 2 + noise, format="rgb24"))
            )
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "sequence"
    where.mkdir()
    for index in range(1, 13):  # no leading zeros: 2 has to come before 10
        cv2.imwrite(str(where / f"{index}.png"), picture(index)[:, :, ::-1])
    (where / "groundtruth.txt").write_text("1,2,3,4\n")
    return where


def numbers(images: list[np.ndarray]) -> list[int]:
    return [int(image[0, 0, 0]) // 10 for image in images]


@pytest.mark.parametrize("ahead", [0, 3])
def test_folder_in_natural_order_and_rgb(folder: Path, ahead: int) -> None:
    with frames(folder, ahead=ahead) as source:
        images = list(source)
        assert source.length == 12
        assert source.fps is None
    assert numbers(images) == list(range(1, 13))
    assert images[0].dtype == np.uint8
    assert tuple(images[0][0, 0]) == (10, 100, 200)


def test_glob_single_image_and_otb_folder(folder: Path, tmp_path: Path) -> None:
    assert numbers(list(frames(str(folder / "1*.png")))) == [1, 10, 11, 12]
    assert numbers(list(frames(folder / "7.png"))) == [7]
    otb = tmp_path / "otb"
    otb.mkdir()
    folder.rename(otb / "img")
    assert len(list(frames(otb))) == 12


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_video(tmp_path: Path, suffix: str) -> None:
    with frames(write_video(tmp_path / f"clip{suffix}")) as source:
        images = list(source)
        assert source.fps == 25
        assert source.length == 12
    assert len(images) == 12
    assert images[0].shape == (48, 64, 3)
    assert images[0].flags.c_contiguous
    red, _, blue = images[0].reshape(-1, 3).mean(0)
    assert red < blue


def test_a_phone_video_is_turned_upright(tmp_path: Path) -> None:
    plain = next(frames(write_video(tmp_path / "plain.mp4")))
    turned = next(frames(write_video(tmp_path / "turned.mp4", rotation=90)))
    assert turned.shape == (64, 48, 3)
    assert np.array_equal(turned, np.rot90(plain))


def test_a_video_over_http_is_read_whole(tmp_path: Path, served: str) -> None:
    with frames(f"{served}/clip.mp4") as source:
        assert not source.live
        assert len(list(source)) == 12


SEEN_BY_SERVER: list[object] = []


@pytest.fixture
def served(tmp_path: Path) -> Generator[str, None, None]:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            SEEN_BY_SERVER.append(words)

    write_video(tmp_path / "clip.mp4", index_in_front=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    SEEN_BY_SERVER.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fail(source: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        list(frames(source))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_each_failure_has_its_own_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "notes.txt"
    text.write_text("hello\n" * 100)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "zero.mp4").touch()
    clip = write_video(tmp_path / "clip.mp4")
    (tmp_path / "half.mp4").write_bytes(
        clip.read_bytes()[: clip.stat().st_size // 2]
    )  # the index is at the end

    assert "no such file" in fail(tmp_path / "missing.mp4")
    assert "no source" in fail("")
    assert "no images" in fail(empty)
    assert "no images" in fail(str(tmp_path / "*.png"))
    assert "text file" in fail(text)
    assert "no video" in fail(sound)
    assert "not a readable image" in fail(tmp_path / "bad.jpg")
    assert "truncated" in fail(tmp_path / "zero.mp4")
    assert "truncated" in fail(tmp_path / "half.mp4")
    assert "no such camera" in fail("97") or "cannot be opened" in fail("97")


def test_a_stream_that_does_not_answer_hides_its_password() -> None:
    message = fail("rtsp://user:secret@127.0.0.1:9/live")
    assert "cannot be opened" in message
    assert "secret" not in message


def test_a_live_stream_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jntrt.runtime.video.videos.OPEN_SECONDS", 0.3)
    assert "cannot be opened (no data came in time)" in fail("udp://127.0.0.1:20961")


def test_a_truncated_video_gives_its_frames_and_then_says_so(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", count=40, index_in_front=True)
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * 0.6)])
    got: list[np.ndarray] = []
    with frames(clip) as source, pytest.raises(StreamError, match=r"broken after .*truncated") as error:
        got.extend(source)
    assert 5 < len(got) < 40
    assert f"after {len(got)} frames" in str(error.value)


def test_a_cut_matroska_file_is_hinted_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """FFmpeg takes its end for a regular one."""
    whole = write_video(tmp_path / "clip.mkv", count=60)
    assert len(list(frames(whole, ahead=0))) == 60
    assert caplog.text == ""
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.4)])
    assert 5 < len(list(frames(cut, ahead=0))) < 40
    assert "s of 2.4 s: the file may be truncated" in caplog.text


def test_opencv_adds_no_lines_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "1.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    assert "not a readable image" in fail(path)
    assert capfd.readouterr() == ("", "")


def test_a_bad_image_midway_is_missing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "5.png").write_bytes(b"not an image")
    source = frames(folder)
    assert [number for number, _ in source.numbered()] == [0, 1, 2, 3, *range(5, 12)]
    assert source.damage.missing == [range(4, 5)]
    assert "1 frame is missing: 4" in caplog.text
    assert "5.png: not a readable image" in caplog.text
    source = frames(folder, strict=True)
    assert numbers([next(source) for _ in range(4)]) == [1, 2, 3, 4]
    with pytest.raises(StreamError, match=r"5\.png.*4 frames before"):
        next(source)
    with pytest.raises(StreamError):  # and it stays so
        next(source)


def test_closing_early_stops_the_thread(folder: Path) -> None:
    source = frames(folder, ahead=1)
    next(source)
    source.close()
    with pytest.raises(StopIteration):
        next(source)


def test_a_live_source_skips_to_its_newest_frame() -> None:
    def clock() -> Generator[int, None, None]:
        for index in range(40):
            time.sleep(0.005)
            yield index

    ahead = Ahead(clock(), 4, newest=True)
    first = ahead.next()
    time.sleep(0.1)
    assert ahead.next() > first + 3
    ahead.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_damaged_videos_are_one_line(tmp_path: Path, suffix: str) -> None:
    whole = write_video(tmp_path / f"clip{suffix}", index_in_front=suffix == ".mp4").read_bytes()
    random = np.random.default_rng(3)
    for attempt in range(80):
        data = bytearray(whole)
        if attempt % 4 == 0:
            del data[random.integers(len(data)) :]
        else:  # the first part holds what describes the streams
            reach = len(data) if attempt % 4 == 1 else min(1500, len(data))
            for position in random.integers(reach, size=random.integers(1, 30)):
                data[position] = random.integers(256)
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(data)
        with suppress(UserError):
            for _ in zip(range(60), frames(path, ahead=0), strict=False):
                pass


def test_names_with_a_colon_and_names_like_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = write_video(tmp_path / "clip.mp4")
    for name in ("12:30.mp4", "http:clip.mp4", "rtsp://127.0.0.1:9/live.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(clip.read_bytes())
        with frames(name) as source:
            assert not source.live
            assert len(list(source)) == 12


def test_a_playlist_on_the_disk_opens_no_connection(tmp_path: Path, served: str) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{served}/clip.mp4\n#EXT-X-ENDLIST\n")
    fail(path)
    path.write_text(f"ffconcat version 1.0\nfile {served}/clip.mp4\n")
    fail(path)
    assert not SEEN_BY_SERVER


def test_a_small_gif_that_claims_a_large_frame(tmp_path: Path) -> None:
    size = (16_000).to_bytes(2, "little") * 2
    path = tmp_path / "bomb.gif"
    path.write_bytes(
        b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0;"
    )
    assert "--max-pixels" in fail(path)


def test_a_video_larger_than_allowed(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4")
    assert len(list(frames(clip, max_pixels=3072))) == 12
    with pytest.raises(UserError, match=r"64×48 is above 3071 pixels|max-pixels allows more"):
        frames(clip, max_pixels=3071)


def test_a_rate_that_is_a_filler_is_none(tmp_path: Path) -> None:
    path = tmp_path / "fast.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15360)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"bf": "0"}
        for index in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(stream.encode(None))
    with frames(path) as source:
        assert source.fps is None
        assert len(list(source)) == 3


def test_a_title_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(1), format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"TITLE" in data
    path.write_bytes(data.replace(b"TITLE", b"T\xfc\xe4LE"))
    assert len(list(frames(path))) == 1


def test_stopping_ends_a_source_that_is_silent() -> None:
    def silent() -> Generator[tuple[int, np.ndarray], None, None]:
        yield 0, picture(0)
        wait.wait(20)

    wait = Event()
    source = Frames("camera 0", Opened(silent(), live=True), ahead=1)
    next(source)
    Timer(0.2, source.stop).start()
    began = time.monotonic()
    with pytest.raises(StopIteration):
        next(source)
    assert time.monotonic() - began < 5
    wait.set()
