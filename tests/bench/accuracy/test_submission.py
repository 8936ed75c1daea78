"""Submissions: what the benchmarks' own toolkits write and read."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from jntrt.bench.accuracy.baselines import baseline
from jntrt.bench.accuracy.submission import write_submission
from jntrt.bench.cli import app
from jntrt.bench.sequences.clips import load_clips
from jntrt.bench.sequences.evaluate import all_runs, evaluate
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError

from ..tiny import write_got10k


@pytest.fixture
def withheld(tmp_path: Path) -> Path:
    """A test set: first boxes alone."""
    root = write_got10k(tmp_path / "data" / "test")
    for name in ("A", "B"):
        file = root / name / "groundtruth.txt"
        file.write_text(file.read_text().splitlines()[0] + "\n")
    return root


def test_got10k_s_zip_holds_what_its_toolkit_s_does(withheld: Path, tmp_path: Path) -> None:
    from got10k.experiments import ExperimentGOT10k

    clips = load_clips(withheld)
    runs = all_runs(baseline("ncc"), clips, tmp_path / "out")
    assert write_submission("got10k", clips, runs, tmp_path / "ours.zip") == 4
    here = Path.cwd()
    experiment = ExperimentGOT10k(
        str(tmp_path / "data"), "test", str(tmp_path / "out"), str(tmp_path / "reports")
    )
    experiment.report(["ncc"])
    assert Path.cwd() == here
    with (
        zipfile.ZipFile(tmp_path / "ours.zip") as ours,
        zipfile.ZipFile(tmp_path / "out" / "GOT-10k" / "ncc.zip") as theirs,
    ):
        wanted = {name for name in theirs.namelist() if name.endswith(("_001.txt", "_time.txt"))}
        assert set(ours.namelist()) == wanted
        for name in wanted:
            assert ours.read(name) == theirs.read(name)


@pytest.mark.parametrize("benchmark", ["lasot", "otb", "uav123", "nfs", "trackingnet"])
def test_a_file_for_each_sequence(benchmark: str, tmp_path: Path) -> None:
    clips = load_clips(write_got10k(tmp_path / "data"))
    runs = all_runs(baseline("static"), clips)
    place = tmp_path / "results.zip"
    assert write_submission(benchmark, clips, runs, place) == 2
    with zipfile.ZipFile(place) as archive:
        assert archive.namelist() == ["A.txt", "B.txt"]
        boxes = np.loadtxt(archive.open("B.txt"), delimiter=",")
    np.testing.assert_allclose(boxes, runs["B"].boxes, atol=0.005)
    other = tmp_path / "again.zip"
    write_submission(benchmark, clips, runs, other)
    assert other.read_bytes() == place.read_bytes()


def test_the_command_and_a_folder(withheld: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "nanotrack-v3", "--data", str(withheld), "--backend", "onnxruntime", "--threads", "1"]
    words += ["--out", str(tmp_path / "out")]
    assert run(app, [*words, "--benchmark", "got10k", "-o", str(tmp_path / "g.zip")]) == 0
    assert "g.zip: 4 files of 2 sequences" in capsys.readouterr().out
    assert run(app, [*words, "--benchmark", "otb", "-o", str(tmp_path / "otb")]) == 0
    assert sorted(path.name for path in (tmp_path / "otb").iterdir()) == ["A.txt", "B.txt"]
    for benchmark, place, told in (
        ("vtb", "v.zip", "choose one of got10k"),
        ("got10k", "folder", "takes a zip"),
        ("otb", "otb", "exists already"),
        ("otb", "none/otb", "its folder does not exist"),
    ):
        assert run(app, [*words, "--benchmark", benchmark, "-o", str(tmp_path / place)]) == 2
        assert told in capsys.readouterr().err


def test_first_boxes_alone_give_no_figures(withheld: Path) -> None:
    with pytest.raises(UserError, match=r"A: only its first box.*bench-jn submit"):
        evaluate(baseline("static"), load_clips(withheld))
