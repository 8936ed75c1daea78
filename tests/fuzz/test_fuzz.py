"""Damaged files: each is read or refused in one line, soon, in little memory, without a crash."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "runtime")]

from golden_bundles import export_golden  # noqa: E402
from isolated import fuzz  # noqa: E402


def counts(short: int, long: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [short, pytest.param(long, marks=pytest.mark.slow)])


@counts(100, 2000)
def test_checkpoints(count: int) -> None:
    outcome = fuzz(HERE / "checkpoints.py", 1, count)
    assert not outcome.bad, outcome.bad[:5]
    assert sum(outcome.counts.values()) == count
    assert outcome.counts["refused"] > count / 4, outcome.counts


@counts(12, 1000)
def test_bundles(tmp_path: Path, count: int) -> None:
    bundle = export_golden("jn256_ce", tmp_path / "good")
    outcome = fuzz(HERE / "bundles.py", bundle.path, 1, count)
    assert not outcome.bad, outcome.bad[:5]
    assert sum(outcome.counts.values()) == 4 * count
    assert outcome.counts["refused"] > count, outcome.counts


@counts(60, 300)
def test_yaml_files(count: int) -> None:
    outcome = fuzz(HERE / "yaml_files.py", 1, count)
    assert not outcome.bad, outcome.bad[:5]
    assert sum(outcome.counts.values()) == count
    assert outcome.counts["refused"] > count / 10, outcome.counts
