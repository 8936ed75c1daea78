"""Damaged files: each is read or refused in one line, soon, in little memory, without a crash."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "runtime")]

from golden_bundles import export_golden  # noqa: E402
from isolated import Outcome, fuzz  # noqa: E402

NANOTRACK = HERE.parent / "data" / "golden" / "nanotrack" / "v1" / "weights.safetensors"


def counts(short: int, long: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [short, pytest.param(long, marks=pytest.mark.slow)])


def tell(name: str, outcome: Outcome) -> None:
    worst = f"at most {outcome.seconds:.1f} s of processor, {outcome.peak} MB"
    print(f"{name}: {dict(outcome.counts)}, {len(outcome.bad)} bad, {worst}", *outcome.bad, sep="\n")


@counts(100, 2000)
def test_checkpoints(count: int) -> None:
    outcome = fuzz(HERE / "checkpoints.py", 1, count)
    tell("checkpoints", outcome)
    assert not outcome.bad, outcome.bad[:5]
    assert sum(outcome.counts.values()) == count
    assert outcome.counts["refused"] > count / 4, outcome.counts


def export_ostrack(folder: Path) -> Path:
    return export_golden("jn256_ce", folder).path


def export_siamese(folder: Path) -> Path:
    from jntrt.export.pipeline import export_checkpoint

    export_checkpoint(NANOTRACK, folder)
    return folder


@pytest.mark.parametrize("export", [export_ostrack, export_siamese])
@counts(8, 1000)
def test_bundles(tmp_path: Path, export: Callable[[Path], Path], count: int) -> None:
    outcome = fuzz(HERE / "bundles.py", export(tmp_path / "good"), 1, count)
    tell(f"bundles, {export.__name__}", outcome)
    assert not outcome.bad, outcome.bad[:5]
    assert sum(outcome.counts.values()) == 4 * count
    assert outcome.counts["refused"] > count, outcome.counts


@counts(20, 500)
def test_videos(tmp_path: Path, count: int) -> None:
    outcome = fuzz(HERE / "videos.py", tmp_path, 1, count)
    tell("videos", outcome)
    assert not outcome.bad, outcome.bad[:5]
    assert sum(outcome.counts.values()) == count
    assert outcome.counts["refused"] > count / 10, outcome.counts


@counts(60, 300)
def test_yaml_files(count: int) -> None:
    outcome = fuzz(HERE / "yaml_files.py", 1, count)
    tell("yaml files", outcome)
    assert not outcome.bad, outcome.bad[:5]
    assert sum(outcome.counts.values()) == count
    assert outcome.counts["refused"] > count / 10, outcome.counts
