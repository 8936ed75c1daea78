"""A bundle is replaced in one step; writers wait for each other, and the killed ones leave nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jntrt.runtime.bundle import Bundle, replace
from jntrt.runtime.errors import UserError

SCRIPT = """
import sys
from pathlib import Path
from jntrt.runtime.bundle import Bundle, write_bundle
precisions = {"fp32": {"template": {"file": "template.onnx"}, "track": {"file": "track.onnx"}}}
crop = {"size": 64, "factor": 2.0}
def write(folder, name):
    manifest = {"format": 1, "name": name, "family": "jn", "batch": 1, "recipe": {}, "template": crop,
                "search": crop, "presence_threshold": 0.25, "precisions": precisions}
    return write_bundle(folder, manifest, {"template.onnx": b"one", "track.onnx": name.encode() * 1000})
"""
written: dict[str, object] = {}
exec(SCRIPT, written)


def write(folder: Path, name: str) -> Bundle:
    bundle = written["write"](folder, name)  # type: ignore[operator]
    assert isinstance(bundle, Bundle)
    return bundle


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_there_is_a_bundle_at_every_moment(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    if not replace.exchange(tmp_path, tmp_path / "none"):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        if not replace.exchange(tmp_path / "a", tmp_path / "b"):
            pytest.skip("this file system cannot exchange two folders")
    write(target, "first")
    missing, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            if not (target / "bundle.json").exists():
                missing.append(time.monotonic())

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(60):
        write(target, f"number{number}")
    done.set()
    looking.join()
    assert not missing


def test_a_writer_killed_at_any_moment_leaves_a_bundle(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    write(target, "first")
    loop = "print('ready', flush=True)\nfor n in range(10**6): write(sys.argv[1], f'n{n}')"
    for delay in (0.0, 0.003, 0.011, 0.02, 0.04):
        writer = start(loop, target)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.1 + delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        Bundle.open(target).verify()
    write(target, "last")
    assert [file.name for file in tmp_path.iterdir()] == ["tiny"]


def test_without_an_exchange_the_next_opening_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replace, "exchange", lambda one, other: False)
    target = tmp_path / "tiny"
    write(target, "first")
    assert write(target, "second").name == "second"
    # Killed between the two renames, with the new one still unfinished.
    target.rename(tmp_path / ".tiny.old.abcdefgh")
    (tmp_path / ".tiny.new.abcdefgh").mkdir()
    (tmp_path / ".tiny.new.abcdefgh" / "track.onnx").write_bytes(b"half")
    (tmp_path / ".tiny.new.notours").mkdir()
    assert Bundle.open(target).name == "second"
    target.rename(tmp_path / ".tiny.old.abcdefgh")
    assert write(target, "third").name == "third"
    assert sorted(file.name for file in tmp_path.iterdir()) == [".tiny.new.notours", "tiny"]


def test_several_who_write_one_bundle(tmp_path: Path) -> None:
    code = "for n in range(20): assert write(sys.argv[1], sys.argv[2] + str(n)).name == sys.argv[2] + str(n)"
    writers = [start(code, tmp_path / "tiny", name) for name in ("a", "b", "c")]
    for writer in writers:
        output, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0, output
    Bundle.open(tmp_path / "tiny").verify()
    assert [file.name for file in tmp_path.iterdir()] == ["tiny"]


def test_a_folder_that_is_not_ours_is_not_taken_for_a_left_over(tmp_path: Path) -> None:
    (tmp_path / ".tiny.old.abcdefgh").mkdir()
    with pytest.raises(UserError, match="no such folder"):
        Bundle.open(tmp_path / "tiny")
    assert os.listdir(tmp_path) == [".tiny.old.abcdefgh"]


def test_the_commands_need_no_posix_module(tmp_path: Path) -> None:
    """Windows has no fcntl and no user numbers: the way to a tracker or an engine needs none."""
    code = """
import os, sys
sys.modules["fcntl"] = None
del os.geteuid
from pathlib import Path
from jntrt.runtime.bundle.replace import locked
from jntrt.runtime.command.files import Replacement, replacing
from jntrt.runtime.engines.tensorrt.cache import EngineCache, EngineKey
import jntrt.export.cli, jntrt.runtime.engines.tensorrt.engine
folder = Path(sys.argv[1])
key = EngineKey("model", "fp32", "tensorrt", "11", "GPU", "00", "8.9", 13000)
cache = EngineCache(folder / "cache", folder / "key")
assert cache.obtain(key, lambda: b"plan").plan == b"plan"
assert cache.read(key).plan == b"plan"
with locked(folder / "bundle"):
    assert (folder / ".jntrt.lock").exists()
rename = os.replace
def closed(part, path):  # Windows renames no file that is open
    assert str(part) not in {os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                             if os.path.islink(f"/proc/self/fd/{n}")}
    rename(part, path)
os.replace = closed
with replacing(folder / "text") as stream:
    stream.write("whole")
os.replace = rename
import jntrt.runtime.trtrun.cli, jntrt.runtime.trtrun.run
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import default_bundle
Tracker.from_bundle(default_bundle(), "onnxruntime").close()
print("opened")
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "opened\n", done.stderr
