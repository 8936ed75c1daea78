"""trtrun --profile: the stage table of a run, and what it was bound by."""

import json
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from jntrt.runtime.command.app import run
from jntrt.runtime.trtrun import cli
from jntrt.runtime.trtrun.results.profile import Profile
from jntrt.runtime.trtrun.results.tracked import Tracked
from jntrt.runtime.video.writer import VideoWriter

BOX = np.array([[1.0, 2.0, 3.0, 4.0]])
QUICK = {"crop": 0.1, "network": 0.1, "box": 0.1}


def profiled(frames: int = 10, *, waited: float = 0.1, written: float = 0.1, **slow: float) -> Profile:
    """The profile of a run whose frames had these times, the clock running in step."""
    profile = Profile(time.perf_counter())
    profile.frame(Tracked(0, BOX, (None,), (False,), 25.0), {}, 0.0)
    for number in range(1, frames + 1):
        for stage in ("draw", "encode"):
            profile.add(stage, slow.get(stage, 0.1))
        stages = {stage: slow.get(stage, ms) for stage, ms in QUICK.items()}
        time.sleep((waited + written + sum(stages.values())) / 1e3)
        profile.frame(Tracked(number, BOX, (0.9,), (False,), 0.3, waited), stages, written)
    return profile


@pytest.mark.parametrize(
    ("times", "live", "bound"),
    [
        ({"waited": 3.0}, False, "decoding: "),
        ({"waited": 3.0}, True, "the camera or stream: "),
        ({"network": 3.0}, False, "network: "),
        ({"crop": 3.0}, False, "crop: "),
        ({"written": 3.0, "encode": 3.0}, False, "encode: "),
        ({"written": 3.0, "draw": 2.0}, False, "write: "),  # neither takes what was waited for
    ],
)
def test_what_a_run_was_bound_by(times: dict[str, float], live: bool, bound: str) -> None:
    assert profiled(**times).bound_by(live=live).startswith(bound)


def test_a_p90_needs_frames_behind_it() -> None:
    few, many = profiled(10).lines(), profiled(64).lines()
    assert "p90 from 64 frames on" in few[1]
    assert "p90 from" not in many[1]
    columns = [next(line for line in told if line.startswith("network")).split() for told in (few, many)]
    assert list(map(len, columns)) == [5, 6]  # stage, p50, p90, longest, total and its unit
    assert max(map(len, many)) <= 80


def test_nothing_is_said_of_no_frame() -> None:
    assert Profile(time.perf_counter()).lines() == []


def test_trtrun_prints_the_table_of_its_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, saved = tmp_path / "clip.mp4", tmp_path / "saved.mp4"
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    with VideoWriter(clip, Fraction(25)) as video:
        for _ in range(8):
            video.write(picture)
    words = [str(clip), "--init", "40,30,30,20", "--bundle", "jn-nano", "--save", str(saved), "--profile"]
    assert run(cli.app, words) == 0
    lines = capsys.readouterr().err.splitlines()
    table = lines[next(n for n, line in enumerate(lines) if line.startswith("start to first box")) :]
    assert table[1].startswith("milliseconds of a frame, 7 frames")
    totals = {line.split()[0]: float(line.split()[-2]) for line in table if line.endswith(" s")}
    assert {"crop", "network", "box", "write", "draw", "encode", "whole"} < set(totals)
    inside = sum(totals[stage] for stage in ("crop", "network", "box", "write"))
    assert inside <= totals["whole"] + 0.03
    assert any(line.startswith("bound by ") for line in table)


def test_the_profile_as_json() -> None:
    few, many = (json.loads(json.dumps(profiled(n, waited=3.0).to_dict()))["profile"] for n in (10, 64))
    assert few["frames"] == 10
    assert few["bound_by"].startswith("decoding: ")
    assert (few["stages_ms"]["network"]["p90"], many["stages_ms"]["network"]["p90"]) == (None, 0.1)
    assert few["stages_ms"]["whole"]["total"] >= 10 * 3
    assert "search" not in few["stages_ms"]
    assert Profile(time.perf_counter()).to_dict()["profile"]["bound_by"] is None


def test_trtrun_prints_it_as_json_beside_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number:08}.png"), np.full((90, 120, 3), 90 + number, np.uint8))
    words = [str(folder), "--init", "40,30,30,20", "--bundle", "jn-nano", "--json", "--profile"]
    assert run(cli.app, words) == 0
    captured = capsys.readouterr()
    assert all("profile" not in json.loads(line) for line in captured.out.splitlines())
    (line,) = [line for line in captured.err.splitlines() if line.startswith('{"profile"')]
    assert json.loads(line)["profile"]["frames"] == 2


def test_several_targets_are_added_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number:08}.png"), np.full((90, 120, 3), 90 + number, np.uint8))
    words = [str(folder), "--init", "40,30,30,20", "--init", "10,10,20,20", "--bundle", "jn-nano"]
    assert run(cli.app, [*words, "--profile", "--out", str(tmp_path / "boxes.txt")]) == 0
    assert "network" in capsys.readouterr().err
