"""Several sources at once: the boxes of one after another, one engine, and each ends for itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime import tracker
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.engines.auto import Resolved
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.trtrun.cli import app
from jntrt.runtime.video.writer import VideoWriter

SIZE = (120, 160)


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three videos of a square that moves another way in each, and a box for each in `boxes`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes").mkdir()
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)
    for name, dx, dy in (("a", 2, 1), ("b", -1, 1), ("c", 1, -1)):
        with VideoWriter(tmp_path / f"{name}.mp4", None) as writer:
            for number in range(12):
                frame = np.full((*SIZE, 3), 110, np.uint8)
                x, y = 60 + dx * number, 45 + dy * number
                frame[y : y + 24, x : x + 30] = texture
                writer.write(frame)
        (tmp_path / "boxes" / f"{name}.txt").write_text("60,45,30,24\n")
    return tmp_path


def track(*words: str) -> int:
    return run(app, [*words, "--backend", "onnxruntime", "--threads", "1"])


def test_at_once_is_one_after_another_with_one_engine(
    videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = []
    open_pair = tracker.open_pair

    def counted(
        bundle: Bundle, precision: str, options: EngineOptions, backend: str
    ) -> tuple[Pair, Resolved]:
        opened.append(bundle)
        return open_pair(bundle, precision, options, backend)

    monkeypatch.setattr(tracker, "open_pair", counted)
    words = ("a.mp4", "b.mp4", "c.mp4", "--init-file", "boxes", "--save", ".mp4")
    assert track(*words, "--out-dir", "once") == 0
    err = capsys.readouterr().err
    assert len(opened) == 1
    assert "onnxruntime, for all sources" in err
    assert all(f"{name}: 12 frames in " in err for name in "abc")
    assert track(*words, "--out-dir", "after", "--at-once", "1") == 0
    assert len(opened) == 4
    for name in "abc":
        lines = Path("once", f"{name}.txt").read_text()
        assert lines.count("\n") == 12
        assert lines == Path("after", f"{name}.txt").read_text()
        assert Path("once", f"{name}.mp4").stat().st_size > 0


def test_a_broken_source_ends_alone(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.mp4").write_bytes(b"no video")
    Path("boxes/c.txt").unlink()
    assert track("a.mp4", "b.mp4", "c.mp4", "gone.mp4", "--init-file", "boxes", "--out-dir", "out") == 2
    err = capsys.readouterr().err
    assert all(f"trtrun: {name}: " in err for name in ("b", "c", "gone.mp4")), err
    assert "gone.mp4: no such file or folder" in err
    assert [path.name for path in Path("out").iterdir()] == ["a.txt"]
    assert Path("out/a.txt").read_text().count("\n") == 12


def test_a_missing_source_is_not_blamed_on_its_box_file(
    videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("a.mp4", "gone.mp4", "--init-file", "boxes", "--out-dir", "out", "--at-once", "1")
    assert track(*words) == 2
    err = capsys.readouterr().err
    assert "trtrun: gone.mp4: no such file or folder" in err
    assert "boxes" not in err


def test_what_needs_order_or_eyes_goes_one_after_another(
    videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track("a.mp4", "b.mp4", "--init", "60,45,30,24", "--json", "--out-dir", "out") == 0
    captured = capsys.readouterr()
    names = [line.split('"source": "')[1].split('"')[0] for line in captured.out.splitlines()]
    assert names == sorted(names)
    assert "for all sources" not in captured.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--at-once", "0"), "--at-once 0"),
        (("--server", "grpc://host", "--bundle", "jn-nano"), "leave --bundle"),
        (
            ("--server", "grpc://host", "--engine", "a.plan", "b.plan"),
            "leave --bundle, --decode and --engine",
        ),
        (("--trust",), "--trust is for the files of --engine"),
        (("--engine", "a.plan", "b.plan", "--precision", "fp16", "--backend", "openvino"), "not openvino's"),
        (("--server", "host:8001"), "an address is grpc://HOST:8001"),
    ],
)
def test_flags(videos: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["a.mp4", "--init", "60,45,30,24", "--out", "x.txt", *words]) == 2
    assert told in capsys.readouterr().err


def test_ctrl_c_keeps_what_all_have_tracked(videos: Path) -> None:
    words = ["a.mp4", "b.mp4", "--init-file", "boxes", "--out-dir", "out", "--backend", "onnxruntime"]
    script = (
        "import sys, time\n"
        "from jntrt.runtime.trtrun import at_once\n"
        "from jntrt.runtime.trtrun.cli import app\n"
        "from jntrt.runtime.command.app import run\n"
        "follow = at_once.follow\n"
        "def slow(*words):\n"
        "    for count, pair in enumerate(follow(*words)):\n"
        "        yield pair\n"
        "        if count == 3: sys.stdout.write('now\\n'); sys.stdout.flush()\n"
        "        if count >= 3: time.sleep(3)\n"  # the first may have to wait long for the second
        "at_once.follow = slow\n"
        "sys.exit(run(app, sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["now\n", "now\n"]
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 30
    for name in "ab":
        assert 4 <= Path("out", f"{name}.txt").read_text().count("\n") < 12
