"""trtrun's choice of frames and sources, from the words to the files; and trtrun grid."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from jntrt.runtime.command.app import run
from jntrt.runtime.trtrun import cli
from jntrt.runtime.video.sources import frames
from jntrt.runtime.video.writer import VideoWriter

COUNT, BOX = 12, "20,30,24,20"
ENGINE = ["--backend", "onnxruntime", "--threads", "1"]


def scene(index: int) -> np.ndarray:
    """A bright square that moves over noise, 90×120."""
    image = np.random.default_rng(0).integers(0, 120, (90, 120, 3), np.uint8)
    image[30:50, 20 + 2 * index : 44 + 2 * index] = (250, 200, 40)
    return image


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a.mp4, b.mp4 and seq/0.png …"""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4"):
        with VideoWriter(Path(name), Fraction(10)) as video:
            for index in range(COUNT):
                video.write(scene(index))
    Path("seq").mkdir()
    for index in range(COUNT):
        cv2.imwrite(f"seq/{index}.png", scene(index)[:, :, ::-1])
    return tmp_path


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(place: Path, small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """trtrun in this process: exit code, stdout, stderr."""

    def trtrun(*words: str) -> tuple[int, str, str]:
        code = run(cli.app, [*words, "--bundle", str(small_bundle), *ENGINE])
        out, err = capsys.readouterr()
        return code, out, err

    return trtrun


def test_start_end_every(call: Call) -> None:
    words = ("a.mp4", "--init", BOX, "--start", "0.2s", "--end", "11", "--every", "3")
    code, out, _ = call(*words, "--json", "--out", "boxes.txt", "--save", "out.mp4")
    assert code == 0
    assert [json.loads(line)["frame"] for line in out.splitlines()] == [2, 5, 8]
    assert len(np.loadtxt("boxes.txt", delimiter=",")) == 3
    with frames("out.mp4") as video:
        assert len(list(video)) == 3
        assert video.fps == Fraction(10, 3)


def test_resize_takes_boxes_in_scaled_pixels(call: Call) -> None:
    code, out, _ = call("seq", "--init", "40,60,48,40", "--resize", "240x180", "--json")
    assert code == 0
    assert len(out.splitlines()) == COUNT
    code, _, err = call("seq", "--init", "130,30,24,20")
    assert (code, "lies outside the frame, which is 120×90" in err) == (2, True)
    assert call("seq", "--init", "130,30,24,20", "--resize", "2", "--json")[0] == 0


def test_several_sources_after_one_another(call: Call) -> None:
    code, out, err = call("a.mp4", "b.mp4", "seq", "--init", BOX, "--out-dir", "out", "--save", ".mp4")
    assert (code, out) == (0, ""), err
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"{name}{suffix}" for name in ("a", "b", "seq") for suffix in (".mp4", ".txt")
    ]
    assert Path("out/a.txt").read_text() == Path("out/b.txt").read_text()
    code, out, _ = call("*.mp4", "--init", BOX, "--json")
    assert [json.loads(line)["source"] for line in out.splitlines()] == ["a.mp4"] * COUNT + ["b.mp4"] * COUNT
    code, _, err = call("a.mp4", "b.mp4", "--init", BOX)
    assert (code, "give --out-dir for their boxes, or --json" in err) == (2, True)


def test_a_source_that_cannot_be_read_does_not_end_the_others(call: Call) -> None:
    Path("broken.mp4").write_bytes(b"no video")
    code, _, err = call("broken.mp4", "a.mp4", "--init", BOX, "--out-dir", "out", "--format", "csv")
    assert code == 2
    assert "broken.mp4: not a readable video" in err
    with Path("out/a.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == COUNT
    assert [path.name for path in Path("out").iterdir()] == ["a.csv"]


def test_an_unquoted_glob_of_images_is_one_sequence(call: Call) -> None:
    listed = sorted(str(path) for path in Path("seq").glob("*.png"))  # as a shell lists them: 10 before 2
    code, out, err = call(*listed, "--init", BOX)
    assert code == 0, err
    assert out == call("seq/*.png", "--init", BOX)[1]
    assert len(out.splitlines()) == COUNT


@pytest.mark.parametrize("kind", ["yuv4mpegpipe", "mpegts"])
def test_a_video_on_stdin(place: Path, small_bundle: Path, kind: str) -> None:
    import av

    with av.open("stream", "w", format=kind) as container:
        codec = "rawvideo" if kind == "yuv4mpegpipe" else "libx264"
        stream = container.add_stream(codec, rate=10, width=120, height=90, pix_fmt="yuv420p")
        for index in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(index), format="rgb24")))
        container.mux(stream.encode(None))
    line = [sys.executable, "-m", "jntrt.runtime.trtrun", "-", "--init", BOX, "--bundle", str(small_bundle)]
    with Path("stream").open("rb") as file:
        pipe = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
    done = subprocess.run(
        [*line, *ENGINE], stdin=pipe.stdout, capture_output=True, text=True, timeout=60, check=False
    )
    assert pipe.wait() == 0
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == COUNT
    assert done.stdout.startswith("20.000,30.000,24.000,20.000\n")


def test_an_mp4_on_stdin_is_refused_in_words(place: Path) -> None:
    import av

    random = np.random.default_rng(0)
    with av.open("noise.mp4", "w") as container:  # larger than what FFmpeg reads ahead
        stream = container.add_stream("libx264", rate=10, width=320, height=240, pix_fmt="yuv420p")
        for _ in range(COUNT):
            picture = random.integers(0, 255, (240, 320, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    line = [sys.executable, "-m", "jntrt.runtime.trtrun", "-", "--init", BOX]
    with subprocess.Popen(["cat", "noise.mp4"], stdout=subprocess.PIPE) as pipe:
        done = subprocess.run(
            line, stdin=pipe.stdout, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert (
        "stdin: an MP4 that cannot be read from a pipe (its index has to come first): give its name"
        in done.stderr
    )


def test_a_trail_is_drawn(call: Call) -> None:
    pictures = []
    for name, words in [("plain.mp4", ()), ("trail.mp4", ("--trail", "8"))]:
        assert call("seq", "--init", BOX, "--save", name, *words)[0] == 0
        with frames(name) as video:
            pictures.append(list(video)[-1].astype(int))
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 60).sum() > 5
    assert call("seq", "--init", BOX, "--trail", "-1")[0] == 2


def test_a_window_needs_a_display(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    if sys.platform == "linux":
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        code, _, err = call("seq", "--init", BOX, "--show")
        assert (code, "--show: no display here; --view" in err) == (2, True)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 4 else -1)
    code, out, _ = call("seq", "--init", BOX, "--show")
    assert (code, len(out.splitlines()), len(shown)) == (0, 4, 4)


def test_view_and_its_address_on_the_command_line(call: Call) -> None:
    code, out, err = call("seq", "--init", BOX, "--view", "127.0.0.1:0")
    assert (code, len(out.splitlines())) == (0, COUNT)
    assert "trtrun: draw and watch at http://127.0.0.1:" in err
    code, _, err = call("seq", "--init", BOX, "--view", "0.0.0.0:70000")
    assert (code, "a port is a number up to 65535" in err) == (2, True)


def test_grid(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli.app, ["grid", "a.mp4", "-o", "first.png"]) == 0
    assert capsys.readouterr().out == "first.png: read x,y,w,h for --init off its labels\n"
    assert run(cli.app, ["grid", "seq", "-o", "later.png", "--start", "5"]) == 0
    first, later = cv2.imread("first.png"), cv2.imread("later.png")
    assert first.shape == later.shape == (540, 720, 3)
    square = first[40 * 6 + 3, 24 * 6 + 3]  # inside it in frame 0, and no longer in frame 5
    assert np.abs(square.astype(int) - (40, 200, 250)).max() < 40
    assert np.abs(later[40 * 6 + 3, 24 * 6 + 3].astype(int) - (40, 200, 250)).max() > 60
    capsys.readouterr()
    for words, message in [
        (["a.mp4", "-o", "first.png"], "exists already"),
        (["a.mp4", "-o", "first.gif"], "ends in .png or .jpg"),
        (["none.mp4", "-o", "x.png"], "no such file"),
        (["a.mp4", "-o", "x.png", "--start", "99"], "the source ends before it"),
    ]:
        assert run(cli.app, ["grid", *words]) == 2
        assert message in capsys.readouterr().err
    assert not Path("x.png").exists()
