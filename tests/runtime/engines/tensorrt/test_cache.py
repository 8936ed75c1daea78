"""The engine cache: what it refuses, concurrent builders, builders that are killed."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jntrt.runtime.engines.tensorrt.cache import EngineCache, EngineKey, EngineRefused
from jntrt.runtime.errors import UserError

KEY = EngineKey(
    model="a" * 64,
    precision="fp16",
    flavour="tensorrt",
    version="11.4.0.106",
    gpu="NVIDIA GeForce RTX 2080 Ti",
    gpu_uuid="0" * 32,
    compute_capability="7.5",
    driver=13000,
    options={"workspace_mib": None, "optimization_level": 3},
)
PLAN = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines", tmp_path / "keys" / "engine.key")


def never() -> bytes:
    raise AssertionError("nothing should be built")


def test_an_engine_is_built_once(cache: EngineCache) -> None:
    assert cache.read(KEY) is None
    assert cache.obtain(KEY, lambda: PLAN).plan == PLAN
    assert cache.obtain(KEY, never).plan == PLAN
    assert cache.root.stat().st_mode & 0o777 == 0o700
    assert (cache.root.parent / "keys" / "engine.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        {"model": "b" * 64},
        {"precision": "int8"},
        {"flavour": "tensorrt-rtx"},
        {"version": "11.4.0.107"},
        {"gpu": "NVIDIA H200"},
        {"gpu_uuid": "1" * 32},
        {"compute_capability": "8.6"},
        {"driver": 13010},
        {"options": {"workspace_mib": 512, "optimization_level": 3}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_key_counts(cache: EngineCache, change: dict[str, Any]) -> None:
    other = replace(KEY, **change)
    assert other.digest != KEY.digest
    cache.obtain(KEY, lambda: PLAN)
    assert cache.read(other) is None


def place(cache: EngineCache, source: EngineKey, target: EngineKey) -> None:
    """Puts the engine of `source` where the one of `target` is looked for, as a careless copy would."""
    cache.obtain(source, lambda: PLAN)
    cache.engine_path(source).rename(cache.engine_path(target))
    cache.manifest_path(source).rename(cache.manifest_path(target))


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def edit(**facts: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **facts}).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "b" * 64}, "it was built for another model"),
        ({"gpu": "NVIDIA H200", "gpu_uuid": "1" * 32}, "it was built for another GPU model"),
        ({"gpu_uuid": "1" * 32}, "it was built for another GPU"),
        ({"version": "10.13.3"}, "it was built for another version of the library"),
        ({"driver": 12080}, "it was built for another driver"),
        ({"precision": "int8"}, "it was built for another precision"),
        ({"recipe": 1}, "it was built for another version of jntrt's build"),
    ],
    ids=["model", "gpu model", "gpu", "version", "driver", "precision", "recipe"],
)
def test_a_foreign_engine_is_refused(cache: EngineCache, change: dict[str, Any], reason: str) -> None:
    place(cache, replace(KEY, **change), KEY)
    with pytest.raises(EngineRefused, match=f"is refused: {reason}"):
        cache.read(KEY)


@pytest.mark.parametrize(
    ("suffix", "change", "reason"),
    [
        (".engine", lambda content: content[:-1], "10239 bytes where 10240 were written"),
        (".engine", lambda content: content[:10], "10 bytes where 10240 were written"),
        (".engine", lambda content: b"", "0 bytes where 10240"),
        (".engine", flip, "its bytes are not those that were written"),
        (".json", lambda content: content[: len(content) // 2], "its manifest is not one of ours"),
        (".json", lambda content: b"", "its manifest is not one of ours"),
        (".json", lambda content: b"[1]", "its manifest is not one of ours"),
        (".json", lambda content: b"[" * 100_000, "its manifest is not one of ours"),
        (".json", edit(sha256="0" * 64), "its manifest was not written by this machine"),
        (".json", edit(parity={"passed": True}), "its manifest was not written by this machine"),
        (".json", edit(signature="0" * 64), "its manifest was not written by this machine"),
        (".json", edit(signature="é" * 64), "its manifest was not written by this machine"),
        (".json", edit(format=2), "its manifest is of another format"),
        (".json", edit(bytes="10240"), "its manifest is of another format"),
    ],
)
def test_an_altered_engine_is_refused_and_built_again(
    cache: EngineCache,
    caplog: pytest.LogCaptureFixture,
    suffix: str,
    change: Callable[[bytes], bytes],
    reason: str,
) -> None:
    cache.obtain(KEY, lambda: PLAN)
    rewrite(cache.engine_path(KEY).with_suffix(suffix), change)
    with pytest.raises(EngineRefused, match=reason):
        cache.read(KEY)
    with caplog.at_level(logging.WARNING):
        assert cache.obtain(KEY, lambda: PLAN[::-1]).plan == PLAN[::-1]
    assert reason in caplog.text
    assert cache.obtain(KEY, never).plan == PLAN[::-1]


def test_an_engine_without_its_plan_is_refused(cache: EngineCache) -> None:
    cache.obtain(KEY, lambda: PLAN)
    cache.engine_path(KEY).unlink()
    with pytest.raises(EngineRefused, match="No such file"):
        cache.read(KEY)


def test_another_machines_cache_is_refused(cache: EngineCache, tmp_path: Path) -> None:
    """A whole cache folder, copied between machines that claim the same GPU: its signatures do not hold."""
    cache.obtain(KEY, lambda: PLAN)
    for key_file in (tmp_path / "none", tmp_path / "other"):
        here = EngineCache(cache.root, key_file)
        with pytest.raises(EngineRefused, match="not written by this machine"):
            here.read(KEY)
        here.obtain(replace(KEY, model="c" * 64), lambda: PLAN)  # now it has a key of its own
        with pytest.raises(EngineRefused, match="not written by this machine"):
            here.read(KEY)


@pytest.mark.parametrize("content", ["", "00" * 31, "not hexadecimal"])
def test_a_key_that_is_none_signs_nothing(cache: EngineCache, tmp_path: Path, content: str) -> None:
    cache.obtain(KEY, lambda: PLAN)
    (tmp_path / "keys" / "engine.key").write_text(content)
    with pytest.raises(UserError, match=r"engine\.key cannot be used to sign engines .*: remove it"):
        cache.read(KEY)


def test_a_cache_that_others_write_to_is_refused(cache: EngineCache) -> None:
    cache.root.mkdir()
    cache.root.chmod(0o777)
    with pytest.raises(UserError, match="chmod go-w"):
        cache.obtain(KEY, never)


def test_facts_are_recorded_under_the_signature(cache: EngineCache) -> None:
    engine = cache.obtain(KEY, lambda: PLAN)
    cache.record(KEY, engine, {"parity": {"passed": True}})
    stored = cache.read(KEY)
    assert stored is not None
    assert stored.manifest["parity"] == {"passed": True}
    assert stored.plan == PLAN


# What a process of its own does: obtain the engine, with a build that says so and takes its time.
CHILD = """
import sys, time
from pathlib import Path
from jntrt.runtime.engines.tensorrt.cache import EngineCache, EngineKey
root, seconds = Path(sys.argv[1]), float(sys.argv[2])
def build():
    with (root / "builds.txt").open("a") as stream:
        stream.write("built\\n")
    time.sleep(seconds)
    return b"plan" * 1000
key = EngineKey("m", "fp16", "tensorrt", "11", "gpu", "uuid", "7.5", 1, {})
engine = EngineCache(root / "engines", root / "engine.key").obtain(key, build)
print(len(engine.plan), flush=True)
"""
CHILD_KEY = EngineKey("m", "fp16", "tensorrt", "11", "gpu", "uuid", "7.5", 1, {})


def start(root: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, str(root), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_four_processes_build_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, 1.0) for _ in range(4)]
    for process in processes:
        out, error = process.communicate(timeout=120)
        assert (process.returncode, out.strip()) == (0, "4000"), error
    assert (tmp_path / "builds.txt").read_text() == "built\n"


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_builder_leaves_no_engine(tmp_path: Path) -> None:
    process = start(tmp_path, 600)
    wait_for(lambda: (tmp_path / "builds.txt").exists())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    cache = EngineCache(tmp_path / "engines", tmp_path / "engine.key")
    assert cache.read(CHILD_KEY) is None
    assert sorted(path.suffix for path in cache.root.iterdir()) == [".lock"]
    # And its lock went with it.
    assert cache.obtain(CHILD_KEY, lambda: b"x").plan == b"x"


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    """Killed between the plan and its manifest, or amid the plan: no engine, and the rest is swept up."""
    cache = EngineCache(tmp_path / "engines", tmp_path / "engine.key")
    cache.obtain(replace(CHILD_KEY, model="n"), lambda: b"other")
    (cache.root / f".{CHILD_KEY.digest}.half").write_bytes(b"pla")
    cache.engine_path(CHILD_KEY).write_bytes(b"plan without manifest")
    assert cache.read(CHILD_KEY) is None
    assert cache.obtain(CHILD_KEY, lambda: b"whole").plan == b"whole"
    assert not list(cache.root.glob(".*"))
