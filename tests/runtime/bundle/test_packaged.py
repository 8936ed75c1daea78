"""The packaged bundles: by name everywhere, and left as they are."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle, copy_bundle, default_bundle, open_bundle
from jntrt.runtime.bundle.packaged import is_packaged, packaged_names
from jntrt.runtime.command.app import run
from jntrt.runtime.engines.parity import compare
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun import cli

NAMES = ("nanotrack-v3", "jn-nano")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no folder has a packaged name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_and_default() -> None:
    assert packaged_names() == NAMES
    assert open_bundle().path == default_bundle().path == open_bundle("nanotrack-v3").path


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_trained_licensed_and_small(name: str) -> None:
    bundle = open_bundle(name)
    assert (bundle.name, bundle.manifest["weights"], bundle.manifest["license"]) == (
        name,
        "trained",
        "Apache-2.0",
    )
    bundle.verify()
    for precision in bundle.precisions:
        assert compare(bundle, precision).passed


def test_the_licence_of_others_weights_lies_beside_them() -> None:
    folder = open_bundle("nanotrack-v3").path
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert "HonglinChu/SiamTrackers" in (folder / "NOTICE").read_text()


@pytest.mark.parametrize("name", [None, *NAMES])
def test_a_tracker_by_name(name: str | None) -> None:
    frame = np.random.default_rng(0).integers(0, 120, (90, 120, 3), np.uint8)
    frame[30:50, 20:44] = (250, 200, 40)
    with Tracker.from_bundle(name, backend="onnxruntime", threads=1) as tracker:
        assert tracker.bundle.name == (name or "nanotrack-v3")
        tracker.init(frame, (20, 30, 24, 20))
        np.testing.assert_allclose(tracker.update(frame).box, (20, 30, 24, 20), atol=8)


def test_a_folder_of_that_name_wins_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(open_bundle("nanotrack-v3").path, "jn-nano")
    with caplog.at_level(logging.WARNING):
        assert open_bundle("jn-nano").path == Path("jn-nano").resolve()
    assert "jn-nano: the folder here is taken" in caplog.text
    caplog.clear()
    assert open_bundle(Path.cwd() / "jn-nano").name == "nanotrack-v3"
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["nothing", "a\0b", "x" * 5000, "models/jn-nano"])
def test_other_names_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError) as refused:
        open_bundle(name)
    assert "is not a bundle" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_name_lists_what_is_packaged() -> None:
    with pytest.raises(UserError, match="packaged are nanotrack-v3, jn-nano"):
        open_bundle("jnnano")


def test_a_copy_is_whole_and_no_longer_packaged() -> None:
    packaged = open_bundle("nanotrack-v3")
    copy = copy_bundle(packaged, "copy")
    assert is_packaged(packaged)
    assert not is_packaged(copy)
    assert {file.name for file in copy.path.iterdir()} == {file.name for file in packaged.path.iterdir()}
    assert [path.name for path in copy.verify()] == [path.name for path in packaged.verify()]
    assert Bundle.open("copy").sha256 == packaged.sha256
    with pytest.raises(UserError, match="is a bundle already"):
        copy_bundle(packaged, "copy")


def test_trtrun_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli.app, ["--bundle", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["nanotrack-v3 (default)", "jn-nano"]
    assert all("GMACs a frame" in line and "Apache-2.0" in line for line in lines)
