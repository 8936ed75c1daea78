"""The engine that a user had measured and kept, and what `auto` makes of it."""

import shutil
from pathlib import Path

import pytest

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle, default_bundle
from jntrt.runtime.engines import backend_class
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.engines.remembered import remember, remembered_backend, remembered_file
from jntrt.runtime.errors import UserError

FP32 = find_precision("fp32")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def taken() -> str:
    with Tracker.from_bundle(default_bundle(), threads=1) as tracker:
        assert tracker.choice.startswith(tracker.describe()["backend"])
        return tracker.choice


def test_auto_takes_what_was_kept_until_it_is_gone() -> None:
    before = taken()
    assert before.startswith("onnxruntime; not ")
    file = remember(default_bundle(), {"fp32": "openvino"})
    assert taken() == taken() == "openvino (the fastest here by bench-jn latency --remember)"
    remember(default_bundle(), {"int8": "onnxruntime"})
    assert remembered_backend(default_bundle(), FP32) == "openvino"
    file.unlink()
    assert taken() == before


def test_what_cannot_run_here_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(default_bundle(), {"fp32": "openvino"})
    monkeypatch.setattr(backend_class("openvino"), "obstacle", lambda *_: "gone")
    assert taken().startswith("onnxruntime")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"fp32": 3}', '{"fp32": "magic"}'])
def test_a_damaged_file_is_as_none(content: str) -> None:
    file = remember(default_bundle(), {"fp32": "openvino"})
    file.write_text(content)
    assert taken().startswith("onnxruntime")


def test_it_is_for_one_bundle_and_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(default_bundle(), {"fp32": "openvino"})
    shutil.copytree(default_bundle().path, tmp_path / "copy")
    assert remembered_backend(Bundle.open(tmp_path / "copy"), FP32) == "openvino"
    with (tmp_path / "copy" / "bundle.json").open("a") as file:
        file.write("\n")
    assert remembered_backend(Bundle.open(tmp_path / "copy"), FP32) is None
    monkeypatch.setattr("jntrt.runtime.engines.remembered.features", lambda: frozenset({"sse2"}))
    assert remembered_backend(default_bundle(), FP32) is None


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    (cache / "jntrt").write_text("a file")
    with pytest.raises(UserError, match="set XDG_CACHE_HOME"):
        remember(default_bundle(), {"fp32": "openvino"})
    assert not remembered_file(default_bundle()).exists()
