"""trtrun of a target that goes and comes back: what ends the run, what finds it, what is said of it."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.bundle.write import copy_bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.trtrun import cli

HERE, THERE = (30, 30), (150, 90)
GONE, BACK, COUNT = 8, 20, 40


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright square over noise that is away from frame 8 and comes back elsewhere in frame 20."""
    folder = tmp_path_factory.mktemp("data") / "hidden"
    folder.mkdir()
    for index in range(COUNT):
        image = np.random.default_rng(0).integers(0, 120, (140, 220, 3), np.uint8)
        if not GONE <= index < BACK:
            x, y = HERE if index < GONE else THERE
            image[y : y + 20, x : x + 24] = (250, 200, 40)
        cv2.imwrite(str(folder / f"{index + 1:08d}.png"), image[:, :, ::-1])
    (folder / "groundtruth.txt").write_text("30,30,24,20\n" * COUNT)
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """jn-nano with a low threshold for redetection."""
    bundle = copy_bundle(open_bundle("jn-nano"), tmp_path_factory.mktemp("bundle") / "nano")
    manifest = bundle.manifest | {"redetect": {"threshold": 0.2}}
    (bundle.path / "bundle.json").write_text(json.dumps(manifest))
    return bundle.path


Call = Callable[..., tuple[int, list[dict[str, object]], str]]


@pytest.fixture
def call(calibrated: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """trtrun --json in this process: exit code, the lines, stderr."""

    def trtrun(*words: str | Path) -> tuple[int, list[dict[str, object]], str]:
        engine = ["--bundle", str(calibrated), "--backend", "onnxruntime", "--threads", "1", "--json"]
        code = run(cli.app, [*map(str, words), *engine])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return trtrun


def test_a_lost_target_ends_the_run_where_that_is_wanted(call: Call, hidden: Path, tmp_path: Path) -> None:
    code, lines, err = call(hidden, "--stop-when-lost", "5", "--out", tmp_path / "boxes.txt")
    assert code == 0
    assert [line["lost"] for line in lines[-5:]] == [True] * 5
    assert len(lines) < BACK
    assert f"lost for 5 frames: stopped at frame {len(lines) - 1}" in err
    assert len((tmp_path / "boxes.txt").read_text().splitlines()) == len(lines)


def test_a_target_found_again_is_reported_as_such(call: Call, hidden: Path) -> None:
    code, lines, err = call(hidden, "--redetect")
    assert code == 0
    again = [line["frame"] for line in lines if "redetected" in line]
    assert again
    assert again[0] >= BACK
    assert f"found again {len(again)} times" in err
    x, y, w, h = lines[-1]["box"]  # type: ignore[misc]
    assert abs(x + w / 2 - THERE[0] - 12) < 8
    assert abs(y + h / 2 - THERE[1] - 10) < 8
    assert not lines[-1]["lost"]


def test_off_by_default(call: Call, hidden: Path) -> None:
    _, lines, err = call(hidden)
    assert len(lines) == COUNT
    assert all("redetected" not in line for line in lines)
    assert "found again" not in err


def test_what_cannot_be_is_refused(call: Call, hidden: Path) -> None:
    for words, message in (
        (("--stop-when-lost", "0"), "a number of frames from 1"),
        (("--redetect", "--decode", "gpu"), "leave --decode gpu out"),
    ):
        code, _, err = call(hidden, *words)
        assert code == 2
        assert message in err
