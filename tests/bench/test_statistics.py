"""Percentiles that have frames behind them, intervals and the test of rounds."""

import numpy as np
import pytest

from jntrt.bench.statistics import LEAST_FRAMES, difference, mann_whitney, median_interval, percentiles


def test_a_percentile_needs_its_frames() -> None:
    for percent, least in LEAST_FRAMES.items():
        name = f"p{percent:g}"
        assert percentiles(np.arange(least, dtype=float))[name] is not None
        if least > 1:
            assert percentiles(np.arange(least - 1, dtype=float))[name] is None
    assert LEAST_FRAMES[99.0] == 662
    assert LEAST_FRAMES[99.9] == 4603


def test_the_interval_is_of_rounds_not_of_frames() -> None:
    """Frames of one round are alike: the spread is that between rounds, however many frames each has."""
    levels = np.random.default_rng(0).normal(10, 1, (12, 1))
    few, many = (median_interval(np.repeat(levels, count, axis=1)) for count in (2, 500))
    assert few is not None
    assert many is not None
    assert many == pytest.approx(few, abs=0.3)
    assert many[1] - many[0] > 0.4
    assert few[0] < 10 < few[1]
    assert median_interval(np.ones((1, 50))) is None


def test_mann_whitney_against_tables() -> None:
    """Values of scipy.stats.mannwhitneyu(method="asymptotic"), ties among them."""
    old, new = np.arange(10.0), np.arange(10.0) + 4.5
    p, above = mann_whitney(old, new)
    assert p == pytest.approx(0.0091, abs=1e-4)
    assert above == pytest.approx(0.85)
    p, above = mann_whitney(np.array([1.0, 2, 2, 3]), np.array([2.0, 3, 3, 4, 4]))
    assert p == pytest.approx(0.0978, abs=1e-4)
    assert mann_whitney(np.ones(8), np.ones(8)) == (1.0, 0.5)


def test_a_difference_has_size_interval_and_effect() -> None:
    rng = np.random.default_rng(1)
    old, new = rng.normal(10, 0.1, 12), rng.normal(10.5, 0.1, 12)
    found = difference([old], [new])
    assert found.low < 1.05 < found.high
    assert found.p < 0.002
    assert found.effect > 0.95
    assert difference([old], [old]).ratio == 1
