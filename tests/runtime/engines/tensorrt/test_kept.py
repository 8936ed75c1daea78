"""`export-jn cache`: what is kept, and what goes."""

import json
import os
import time
from pathlib import Path

import pytest

from jntrt.export.cli import app
from jntrt.runtime.command.app import run
from jntrt.runtime.engines.tensorrt.cache import EngineCache, EngineKey
from jntrt.runtime.engines.tensorrt.kept import DAY, kept_engines, prune

OLD = EngineKey("a" * 64, "fp16", "tensorrt", "11.4", "NVIDIA L4", "0" * 32, "8.9", 13000)
NEW = EngineKey("b" * 64, "fp32", "tensorrt-rtx", "1.7", "NVIDIA L4", "0" * 32, "8.9", 13000)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    cache = EngineCache()
    for key in (OLD, NEW):
        engine = cache.obtain(key, lambda: b"plan" * 1000)
        cache.record(key, engine, {"graph": "jn256 track"})
    long_ago = time.time() - 40 * DAY
    for path in (cache.engine_path(OLD), cache.manifest_path(OLD)):
        os.utime(path, (long_ago, long_ago))
    return cache


def test_the_list(cache: EngineCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["cache", "--json"]) == 0
    new, old = json.loads(capsys.readouterr().out)
    assert (new["graph"], new["backend"], new["precision"]) == ("jn256 track", "tensorrt-rtx 1.7", "fp32")
    assert (old["name"], old["gpu"]) == (OLD.digest, "NVIDIA L4")
    assert old["bytes"] > 4000
    assert run(app, ["cache"]) == 0
    assert "jn256 track" in capsys.readouterr().out


def test_what_was_not_used_goes(cache: EngineCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["cache", "--prune", "30", "--json"]) == 0
    assert [kept["name"] for kept in json.loads(capsys.readouterr().out)] == [OLD.digest]
    assert cache.read(OLD) is None
    assert not cache.engine_path(OLD).exists()
    assert cache.read(NEW) is not None
    assert run(app, ["cache", "--prune", "-1"]) == 2


def test_using_an_engine_keeps_it(cache: EngineCache) -> None:
    assert cache.read(OLD) is not None
    assert prune(cache, 30) == []


def test_what_is_no_engine_is_listed_and_goes(cache: EngineCache) -> None:
    (cache.root / "left.engine").write_bytes(b"half")
    (cache.root / "strange.json").write_text("[" * 100_000)
    assert {"left", "strange"} <= {kept.name for kept in kept_engines(cache)}
    assert len(prune(cache, 0)) == 4
    assert kept_engines(cache) == []
