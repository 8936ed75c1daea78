"""The key that signs engines, where a fleet shares one."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from jntrt.runtime.cuda.driver import DeviceInfo
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.tensorrt import engine as tensorrt_engine
from jntrt.runtime.engines.tensorrt.cache import EngineCache, EngineKey, EngineRefused
from jntrt.runtime.engines.tensorrt.engine import engine_key
from jntrt.runtime.engines.tensorrt.signing import create_secret, read_secret
from jntrt.runtime.errors import UserError

HERE = DeviceInfo(0, "NVIDIA L4", "0" * 32, (8, 9), 13000)
THERE = replace(HERE, uuid="1" * 32)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tensorrt_engine, "load_flavour", lambda flavour: type("Library", (), {"__version__": "11.4"})
    )


def move_to_another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The cache is shared, the machine's own key is not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "shared"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / f"machine {os.urandom(4).hex()}"))


def key_of(device: DeviceInfo, engine_key_file: Path | None) -> EngineKey:
    return engine_key("a" * 64, "fp16", "tensorrt", device, EngineOptions(engine_key=engine_key_file))


def never() -> bytes:
    raise AssertionError("nothing should be built")


def test_a_fleet_shares_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = tmp_path / "fleet.key"
    create_secret(fleet)
    move_to_another_machine(monkeypatch, tmp_path)
    EngineCache.open(fleet).obtain(key_of(HERE, fleet), lambda: b"plan")
    move_to_another_machine(monkeypatch, tmp_path)
    assert EngineCache.open(fleet).obtain(key_of(THERE, fleet), never).plan == b"plan"
    # Another model of GPU is still another engine.
    assert EngineCache.open(fleet).read(key_of(replace(THERE, name="NVIDIA H200"), fleet)) is None
    # Another fleet's key opens nothing, and says which key it was.
    other = tmp_path / "other.key"
    create_secret(other)
    with pytest.raises(EngineRefused, match=r"was not signed with .*other\.key"):
        EngineCache.open(other).read(key_of(THERE, other))


def test_without_the_key_nothing_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_to_another_machine(monkeypatch, tmp_path)
    EngineCache.open(None).obtain(key_of(HERE, None), lambda: b"plan")
    assert EngineCache.open(None).read(key_of(THERE, None)) is None
    move_to_another_machine(monkeypatch, tmp_path)
    with pytest.raises(EngineRefused, match="not written by this machine"):
        EngineCache.open(None).read(key_of(HERE, None))


def test_a_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "fleet.key"
    create_secret(path)
    secret = read_secret(path)
    assert secret is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    create_secret(path)
    assert read_secret(path) == secret
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "fleet.key"
    create_secret(path)
    path.chmod(mode)
    with pytest.raises(UserError, match="chmod 600"):
        EngineCache.open(path)
    path.chmod(0o400)
    EngineCache.open(path)


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.key"
    create_secret(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(UserError, match="belongs to"):
        EngineCache.open(path)


def test_a_missing_key_is_not_made_by_a_run(tmp_path: Path) -> None:
    path = tmp_path / "fleet.key"
    with pytest.raises(UserError, match=r"no such file; export-jn build --engine-key makes it"):
        EngineCache.open(path)
    assert not path.exists()
