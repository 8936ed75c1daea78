"""Box files and names of results: whole or absent, and nothing of others replaced."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.results.outputs import BoxFile, Outputs, check_output, numbered


def test_boxes_are_kept_after_an_error(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), BoxFile(tmp_path / "boxes.txt") as file:
        file.write(np.array([1, 2.5, 3.14159, -4.0]))
        raise KeyboardInterrupt
    assert (tmp_path / "boxes.txt").read_text() == "1.000,2.500,3.142,-4.000\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_box_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("kept")
    with suppress(UserError), BoxFile(tmp_path / "boxes.txt"):
        raise UserError("the network cannot be run")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    file = BoxFile(tmp_path / "boxes.txt")
    file._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115  # the BoxFile closes it
    with pytest.raises(UserError, match=r"boxes\.txt: cannot be written any further \(No space left"), file:
        file.write(np.zeros(4))


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    existing = tmp_path / "there.txt"
    existing.touch()
    check_output(existing, "--out", overwrite=True)
    for path, words in [
        (existing, "--overwrite"),
        (tmp_path, "folder"),
        (tmp_path / "no" / "boxes.txt", "does not exist"),
    ]:
        with pytest.raises(UserError, match=words):
            check_output(path, "--out", overwrite=False)
    for path in (tmp_path / "pipe", Path("/dev/null")):  # a result moved there would take its place
        if path.parent == tmp_path:
            os.mkfifo(path)
        with pytest.raises(UserError, match="no regular file"):
            check_output(path, "--out", overwrite=True)
    (tmp_path / "a").mkdir()
    same = tmp_path / "a" / ".." / "x.mp4"
    with pytest.raises(UserError, match="is the name that --out has"):
        Outputs(tmp_path / "x.mp4", same, json=False, targets=1, overwrite=True)
    with pytest.raises(UserError, match=r"\.mp4"):
        Outputs(None, tmp_path / "out.gif", json=False, targets=1, overwrite=False)


def test_several_targets_get_a_file_each() -> None:
    assert numbered(Path("a/boxes.txt"), 0, 1) == Path("a/boxes.txt")
    assert numbered(Path("a/boxes.txt"), 1, 2) == Path("a/boxes.2.txt")
    assert numbered(Path("boxes"), 0, 2) == Path("boxes.1")
