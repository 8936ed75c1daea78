"""The soak: memory flat, no drift."""

from pathlib import Path

import pytest

from jntrt.bench.soak import app, soak, tiny_bundle
from jntrt.runtime import Tracker
from jntrt.runtime.command.app import run


@pytest.mark.parametrize("updates", [2000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_memory_stays_flat_and_latency_does_not_drift(tmp_path: Path, updates: int) -> None:
    with Tracker.from_bundle(tiny_bundle(tmp_path / "tiny"), backend="onnxruntime", threads=1) as tracker:
        result = soak(tracker, updates)
    assert abs(result.growth_mb) < 4
    if updates >= 100_000:
        assert result.drift < 1.3


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (([str(tmp_path)], "is not a bundle"), (["--updates", "5"], "give 10 or more")):
        assert run(app, words) == 2
        assert message in capsys.readouterr().err
