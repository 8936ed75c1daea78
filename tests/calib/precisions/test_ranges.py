"""Histograms that grow, and the ways to choose a range from them."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jntrt.calib.precisions.ranges import (
    METHODS,
    Magnitudes,
    choose_ranges,
    percentile_range,
    squared_error,
)
from jntrt.runtime.errors import UserError


def seen(*arrays: np.ndarray) -> Magnitudes:
    magnitudes = Magnitudes()
    for array in arrays:
        magnitudes.add(array)
    return magnitudes


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=50))
@example([1.401298464324817e-45])
def test_nothing_is_lost_when_the_range_grows(values):
    magnitudes = seen(*[np.array([v], np.float32) for v in values])
    assert magnitudes.largest == max(values)
    # Zeros seen before the first other value have no histogram yet.
    assert magnitudes.counts.sum() == len(values) - next((i for i, v in enumerate(values) if v), len(values))
    assert magnitudes.limit >= magnitudes.largest


def test_every_method_is_sane_on_a_normal_distribution_with_an_outlier():
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    values[7] = 60.0
    magnitudes = seen(values[:1000], values[1000:])
    ranges = {method: choose_ranges({"x": magnitudes}, method)["x"] for method in METHODS}
    assert ranges["minmax"] == 60.0
    assert 3.5 < ranges["percentile"] < 4.6
    assert 2 < ranges["entropy"] <= 60
    errors = {method: squared_error(magnitudes, limit) for method, limit in ranges.items()}
    assert errors["mse"] == min(errors.values()) < errors["minmax"]


def test_the_error_estimate_is_the_error():
    values = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    for limit in (2.0, 4.0):
        step = limit / 127
        quantised = np.clip(np.rint(values / step), -127, 127) * step
        measured = float(np.mean((quantised - values) ** 2))
        assert squared_error(seen(values), limit) == pytest.approx(measured, rel=0.1)


def test_percentile_never_exceeds_the_largest():
    magnitudes = seen(np.array([0.5, 1.0], np.float32))
    assert percentile_range(magnitudes, 100) == 1.0
    assert percentile_range(magnitudes, 50) <= 0.51


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1.401298464324817e-45])
def test_a_tensor_of_nothing_has_a_range_all_the_same(value, method):
    assert choose_ranges({"x": seen(np.full(3, value, np.float32))}, method) == {"x": 1.0}


def test_what_is_not_finite_or_unknown():
    with pytest.raises(UserError, match="not finite"):
        seen(np.array([np.nan], np.float32))
    with pytest.raises(UserError, match="--method best"):
        choose_ranges({}, "best")
