"""trtrun from end to end, on a small untrained bundle: what goes in, what comes out, what goes wrong."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from jntrt.runtime.command.app import run
from jntrt.runtime.tracker import Tracker
from jntrt.runtime.trtrun import cli
from jntrt.runtime.trtrun import draw_box as window
from jntrt.runtime.video.sources import frames
from jntrt.runtime.video.writer import VideoWriter

COUNT = 15
TRTRUN = [sys.executable, "-c", "import sys; from jntrt.runtime.trtrun.cli import main; sys.exit(main())"]


def scene(index: int) -> np.ndarray:
    """A bright square that moves over noise, 90×120."""
    image = np.random.default_rng(0).integers(0, 120, (90, 120, 3), np.uint8)
    image[30:50, 20 + 2 * index : 44 + 2 * index] = (250, 200, 40)
    return image


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, Fraction(25)) as video:
        for index in range(COUNT):
            video.write(scene(index))
    return path


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sequence"
    folder.mkdir()
    for index in range(COUNT):
        cv2.imwrite(str(folder / f"{index + 1:08d}.png"), scene(index)[:, :, ::-1])
    (folder / "groundtruth.txt").write_text("20.0000,30.0000,24.0000,20.0000\n" * COUNT)
    return folder


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """trtrun in this process: exit code, stdout, stderr."""

    def trtrun(*words: str | Path, bundle: Path = small_bundle) -> tuple[int, str, str]:
        engine = ["--bundle", str(bundle), "--backend", "onnxruntime", "--threads", "1"]
        code = run(cli.app, [*map(str, words), *engine])
        out, err = capsys.readouterr()
        return code, out, err

    return trtrun


BOX = "20,30,24,20"


def boxes_of(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", ndmin=2)


def test_boxes_are_those_of_the_tracker(call: Call, clip: Path, small_bundle: Path, tmp_path: Path) -> None:
    code, out, err = call(clip, "--init", BOX, "--out", tmp_path / "boxes.txt")
    assert (code, out) == (0, "")
    assert f"{COUNT} frames in" in err
    assert "onnxruntime" in err
    expected = [np.array([20.0, 30, 24, 20])]
    engine = Tracker.from_bundle(small_bundle, backend="onnxruntime", threads=1)
    with engine as tracker, frames(clip) as source:
        tracker.init(next(source), expected[0])
        expected += [tracker.update(frame).box for frame in source]
    assert np.abs(boxes_of(tmp_path / "boxes.txt") - expected).max() <= 0.0005
    assert (tmp_path / "boxes.txt").read_text().startswith("20.000,30.000,24.000,20.000\n")


@pytest.mark.parametrize("kind", ["folder", "glob", "init file"])
def test_images_give_what_a_sequence_gives(call: Call, sequence: Path, tmp_path: Path, kind: str) -> None:
    words = {
        "folder": [sequence],  # its own ground truth says where to begin
        "glob": [f"{sequence}/*.png", "--init", BOX],
        "init file": [f"{sequence}/*.png", "--init-file", sequence / "groundtruth.txt"],
    }[kind]
    code, out, _ = call(*words)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == COUNT
    assert lines[0] == "20.000,30.000,24.000,20.000"
    _, again, _ = call(sequence)
    assert out == again


def test_json_lines(call: Call, clip: Path) -> None:
    code, out, _ = call(clip, "--init", BOX, "--json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(COUNT))
    assert lines[0]["score"] is None
    for line in lines[1:]:
        assert len(line["box"]) == 4
        assert 0 <= line["score"] <= 1
        assert line["lost"] == (line["score"] < 0.25)
        assert line["milliseconds"] > 0


def test_the_annotated_video(call: Call, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    code, out, _ = call(clip, "--init", BOX, "--save", path)
    assert (code, out) == (0, "")
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 25
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(images) == COUNT
    before = next(frames(clip)).astype(int)
    changed = np.abs(images[0].astype(int) - before).max(axis=2) > 60
    assert changed[30:50, 20].mean() > 0.9  # the box's left side is drawn
    assert changed[70:, 80:].mean() < 0.02  # the rest is the clip


def one_line(result: tuple[int, str, str], words: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert words in err


def test_mistakes_are_one_line(call: Call, clip: Path, small_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "there.txt").touch()
    for words, message in [
        ((tmp_path / "none.mp4", "--init", BOX), "no such file"),
        (("97", "--init", BOX), "camera 97"),
        ((tmp_path, "--init", BOX), "no images"),
        ((clip, "--init", "1,2,3"), "3 given, needs 4 numbers"),
        ((clip, "--init", "500,2,30,30"), "outside the frame, which is 120×90"),
        ((clip, "--init", "5,2,0.5,30"), "smaller than a pixel"),
        ((clip, "--init", "-5,2,30,30"), "--init=-5,2,30,30"),
        ((clip, "--init", BOX, "--out", tmp_path / "there.txt"), "--overwrite"),
        ((clip, "--init", BOX, "--save", tmp_path / "out.gif"), ".mp4"),
        ((clip, "--init", BOX, "--save", tmp_path / "no" / "out.mp4"), "does not exist"),
        ((clip, "--init", BOX, "--precision", "int3"), "int3"),
    ]:
        one_line(call(*words), message)
    one_line(call(clip, "--init", BOX, "--save", clip, "--overwrite"), "overwritten by the result")
    (boxes := tmp_path / "there.txt").write_text(BOX)
    one_line(call(clip, "--init-file", boxes, "--out", boxes, "--overwrite"), "overwritten by the result")
    one_line(call(clip, "--init", BOX, bundle=tmp_path), "is not a bundle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.txt"]


def test_overwrite(call: Call, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("old")
    assert call(clip, "--init", BOX, "--out", tmp_path / "boxes.txt", "--overwrite")[0] == 0
    assert len(boxes_of(tmp_path / "boxes.txt")) == COUNT


def test_a_negative_corner_is_fine(call: Call, clip: Path) -> None:
    code, out, _ = call(clip, "--init=-5,-2,30,30")
    assert code == 0
    assert out.startswith("-5.000,-2.000,30.000,30.000\n")


def test_a_truncated_video_keeps_what_was_tracked(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    with VideoWriter(path, Fraction(25)) as video:
        for index in range(40):
            noise = np.random.default_rng(index).integers(0, 90, (90, 120, 3), np.uint8)
            video.write(scene(index) // 2 + noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    code, _, err = call(path, "--init", BOX, "--out", tmp_path / "boxes.txt", "--save", tmp_path / "out.mp4")
    assert code == 2
    assert "truncated" in err
    kept = len(boxes_of(tmp_path / "boxes.txt"))
    assert 5 < kept < 40
    assert f"broken after {kept} frames" in err
    assert len(list(frames(tmp_path / "out.mp4"))) == kept


def test_drawing_the_first_box(
    call: Call, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform == "linux":
        one_line(call(clip), "no display to draw one on: give --init x,y,w,h")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", _no_window)
    one_line(call(clip), "install opencv-python in place of opencv-python-headless")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: (0, 0, 0, 0))
    one_line(call(clip), "no box was drawn")
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: (20, 30, 24, 20))
    assert window.draw_box(scene(0)).tolist() == [20, 30, 24, 20]
    code, out, _ = call(clip)
    assert code == 0
    assert out.startswith("20.000,30.000,24.000,20.000\n")


def _no_window(*_: object) -> None:
    raise cv2.error("The function is not implemented. Rebuild the library with GTK+ support.")


def words(sequence: Path, bundle: Path) -> list[str]:
    return [str(sequence), "--bundle", str(bundle), "--backend", "onnxruntime", "--threads", "1"]


def test_ctrl_c_keeps_what_was_tracked(small_bundle: Path, sequence: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for index in range(4000):
        os.link(sequence / "00000001.png", many / f"{index}.png")
    boxes, video = tmp_path / "boxes.txt", tmp_path / "out.mp4"
    line = [*TRTRUN, *words(many, small_bundle), "--init", BOX, "--out", str(boxes), "--save", str(video)]
    pipe = subprocess.PIPE
    # A test run in the background ignores Ctrl-C, and children inherit that; a handler they do not inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen([*line, "--json"], stdout=pipe, stderr=pipe, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "trtrun: interrupted"
    kept = len(boxes_of(boxes))
    assert 20 <= kept < 4000
    assert len(list(frames(video))) == kept


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "torchvision", "timm", "safetensors", "yaml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from jntrt.runtime.trtrun.cli import main
sys.exit(main())
"""


def test_no_torch_needed(small_bundle: Path, sequence: Path) -> None:
    line = [sys.executable, "-c", BLOCKED, *words(sequence, small_bundle)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == COUNT


def test_a_bar_on_a_terminal(small_bundle: Path, sequence: Path) -> None:
    """On a terminal stderr carries a bar, and stdout still nothing but boxes."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    line = [*TRTRUN, *words(sequence, small_bundle)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=child, text=True, env=environment) as process:
        out, _ = process.communicate(timeout=60)
    os.close(child)
    shown = os.read(parent, 1 << 16).decode()
    os.close(parent)
    assert process.returncode == 0
    assert len(out.splitlines()) == COUNT
    assert "tracking" in shown
    assert "FPS" in shown


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from jntrt.runtime.command.app import run; from jntrt.runtime.trtrun import cli;"
        "run(cli.app, ['--help']);"
        "heavy = {'numpy', 'cv2', 'av', 'torch', 'onnxruntime', 'openvino'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--init" in done.stdout


def test_alone_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli.app, []) == 0
    out, err = capsys.readouterr()
    assert "--init" in out
    assert err == ""


def test_several_targets_on_a_bundle_of_one(call: Call, clip: Path, tmp_path: Path) -> None:
    alone = [call(clip, "--init", box)[1].splitlines() for box in (BOX, "60,20,30,30")]
    code, _, err = call(clip, "--init", BOX, "--init", "60,20,30,30", "--out", tmp_path / "boxes.txt")
    assert code == 0
    assert "2 trackers, one for each target" in err
    for index, lines in enumerate(alone, 1):
        assert (tmp_path / f"boxes.{index}.txt").read_text().splitlines() == lines


def test_a_missing_frame_is_a_gap(
    call: Call, sequence: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in sequence.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "00000004.png").write_bytes(b"\x89PNG nothing")
    (damaged / "00000005.png").write_bytes(b"")
    boxes, video = tmp_path / "boxes.txt", tmp_path / "out.mp4"
    code, out, _ = call(damaged, "--json", "--out", boxes, "--save", video)
    assert code == 0
    assert [json.loads(line)["frame"] for line in out.splitlines()] == [0, 1, 2, *range(5, COUNT)]
    kept = boxes_of(boxes)
    assert len(kept) == COUNT
    assert (kept[3] == kept[2]).all()
    assert (kept[4] == kept[2]).all()
    assert len(list(frames(video))) == COUNT
    assert "2 frames are missing: 3 to 4" in caplog.text
    code, out, err = call(damaged, "--json", "--strict")
    assert code == 2
    assert len(out.splitlines()) == 3
    assert "00000004.png" in err


def test_a_result_that_appeared_during_the_run_stays(
    call: Call, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = tmp_path / "boxes.txt"
    update = Tracker.update

    def other_program(tracker: Tracker, frame: np.ndarray) -> object:
        boxes.write_text("theirs")
        return update(tracker, frame)

    monkeypatch.setattr(Tracker, "update", other_program)
    code, _, err = call(sequence, "--out", boxes)
    assert code == 2
    assert "appeared during the run and stays" in err
    assert boxes.read_text() == "theirs"
    assert len(boxes_of(tmp_path / "boxes.new1.txt")) == COUNT


def test_engines_that_were_passed_over_belong_to_verbose(
    call: Call, sequence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Tracker.from_bundle

    def auto(*words: object, **options: object) -> Tracker:
        tracker = opened(*words, **options)  # type: ignore[arg-type]
        tracker.choice = "onnxruntime; not openvino (missing)"
        return tracker

    monkeypatch.setattr(Tracker, "from_bundle", auto)
    assert "openvino" not in call(sequence)[2]
    assert "not openvino (missing)" in call(sequence, "-v")[2]


def shown_on_terminals(line: list[str]) -> tuple[str, str]:
    """What a run shows with stdout and stderr each on a terminal."""
    pairs = [pty.openpty() for _ in range(2)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    (out, out_child), (err, err_child) = pairs
    with subprocess.Popen(line, stdout=out_child, stderr=err_child, env=environment) as process:
        os.close(out_child)
        os.close(err_child)
        shown = {out: b"", err: b""}
        waiting = set(shown)
        while waiting:
            for ready in select.select(list(waiting), [], [])[0]:
                try:
                    data = os.read(ready, 1 << 16)
                except OSError:  # Linux: the other side was closed
                    data = b""
                shown[ready] += data
                if not data:
                    waiting.discard(ready)
    assert process.returncode == 0, shown
    for parent in shown:
        os.close(parent)
    return shown[out].decode(), shown[err].decode()


def test_on_a_terminal_one_line_is_updated(small_bundle: Path, sequence: Path) -> None:
    out, err = shown_on_terminals([*TRTRUN, *words(sequence, small_bundle)])
    assert out == ""
    assert "bound by" in err
    out, err = shown_on_terminals([*TRTRUN, *words(sequence, small_bundle), "--json"])
    assert out.count("\n") == COUNT
    assert "tracking" not in err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_finishing_is_not_interrupted(small_bundle: Path, sequence: Path, tmp_path: Path, name: str) -> None:
    """A press after the last frame, and a second one: while the video gets its last frames and its index."""
    code = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
from jntrt.runtime.video import writer
commit = writer.Replacement.commit
def slow(replacement):
    os.kill(os.getpid(), signal.{name})  # once for the video, once for the boxes
    time.sleep(0.05)
    commit(replacement)
writer.Replacement.commit = slow
from jntrt.runtime.trtrun.cli import main
sys.exit(main())
"""
    boxes, video = tmp_path / "boxes.txt", tmp_path / "out.mp4"
    line = [sys.executable, "-c", code, *words(sequence, small_bundle), "--save", str(video)]
    done = subprocess.run(
        [*line, "--out", str(boxes)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "trtrun: interrupted"
    assert "written: " in done.stderr
    assert len(boxes_of(boxes)) == len(list(frames(video))) == COUNT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.txt", "out.mp4"]
