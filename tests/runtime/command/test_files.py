"""Replacing a file: whole or not at all, nothing of others is lost, nothing is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jntrt.runtime.command.files import Replacement, replacing
from jntrt.runtime.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")
    with replacing(path) as stream:
        stream.write("new: ä")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "new: ä"
    with replacing(path, "wb") as stream:
        stream.write(b"\x00")
    assert path.read_bytes() == b"\x00"
    assert names(tmp_path) == ["figures.json"]


def fail_midway(path: Path) -> None:
    with replacing(path) as stream:
        stream.write("half")
        raise KeyboardInterrupt


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_midway(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["figures.json"]


def test_a_file_that_appeared_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    for number in (1, 2):
        replacement = Replacement(path, overwrite=False)
        replacement.part.write_text(f"ours {number}")
        path.write_text("theirs")
        with pytest.raises(UserError, match=rf"appeared during the run and stays; .*boxes\.new{number}\.txt"):
            replacement.commit()
    assert names(tmp_path) == ["boxes.new1.txt", "boxes.new2.txt", "boxes.txt"]
    assert path.read_text() == "theirs"
    assert (tmp_path / "boxes.new2.txt").read_text() == "ours 2"


KILLED = """
import os, sys
from pathlib import Path
from jntrt.runtime.command.files import Replacement
Replacement(Path(sys.argv[1])).part.write_text("half")
print("made", flush=True)
sys.stdin.read()
os._exit(9)
"""


def test_what_a_killed_run_left_is_removed_and_a_running_one_is_not_disturbed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "boxes.txt"
    (tmp_path / ".boxes.txt.backup.part").write_text("of somebody else")
    line = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        left = f".boxes.txt.{process.pid}.part"
        Replacement(path).discard()
        assert left in names(tmp_path)
        process.kill()
    assert left in names(tmp_path)
    with replacing(path) as stream:
        stream.write("whole")
    assert names(tmp_path) == [".boxes.txt.backup.part", "boxes.txt"]
    assert f"{left}: removed" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        Replacement(tmp_path / "boxes.txt")


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        Replacement(tmp_path / "no" / "boxes.txt")
