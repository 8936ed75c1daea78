"""What may be said of repeated timings: percentiles with enough frames behind them, intervals, a test.

Frames that follow each other are alike, so that rounds are drawn and tested, never frames.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Frames that a percentile asks for. Up to p99: with fewer, two slower frames or more are not 99 % sure
# (MLPerf's early stopping); p99.9: one, ln 0.01 / ln 0.999.
LEAST_FRAMES = {50.0: 1, 90.0: 64, 95.0: 130, 99.0: 662, 99.9: 4603}
DRAWS = 1000
LEVEL = 0.95


def percentiles(values: Floats) -> dict[str, float | None]:
    """p50, p90, p95, p99, p99.9 of all values; None where there are fewer than `LEAST_FRAMES`."""
    flat = values.ravel()
    return {
        f"p{percent:g}": float(np.percentile(flat, percent)) if len(flat) >= least else None
        for percent, least in LEAST_FRAMES.items()
    }


def median_interval(values: Floats, seed: int = 0) -> tuple[float, float] | None:
    """95 % bootstrap interval of the median of rounds×frames values, rounds drawn; None of one round."""
    return _interval(values, np.median, seed)


def mean_interval(values: Floats, seed: int = 0) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean of N values; None of one."""
    return _interval(values, np.mean, seed)


def _interval(values: Floats, measure: Callable[[Floats], Any], seed: int) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    draws = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile([measure(values[drawn]) for drawn in draws], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


class Difference(NamedTuple):
    """ratio: median of `new` over that of `old`, low and high its 95 % bootstrap interval.

    p: of the Mann-Whitney test, two-sided. effect: how often a value of `new` is above one of `old` (0 … 1,
    ties half; 0.5 shows no difference).
    """

    ratio: float
    low: float
    high: float
    p: float
    effect: float


def difference(old: Sequence[Floats], new: Sequence[Floats], seed: int = 0) -> Difference:
    """How the values `new` differ from `old`: one value a round, the rounds of one process in an array.

    Where both have several processes the bootstrap draws processes, whose rounds are alike; else rounds.
    """
    before, after = np.concatenate(old), np.concatenate(new)
    groups = (old, new) if min(len(old), len(new)) > 1 else (list(before[:, None]), list(after[:, None]))
    drawn_old, drawn_new = (_drawn_medians(own, seed + k) for k, own in enumerate(groups))
    low, high = np.quantile(drawn_new / drawn_old, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    p, effect = mann_whitney(before, after)
    return Difference(float(np.median(after) / np.median(before)), float(low), float(high), p, effect)


def _drawn_medians(groups: Sequence[Floats], seed: int) -> Floats:
    """The median of as many groups drawn with repetition, `DRAWS` times."""
    draws = np.random.default_rng(seed).integers(0, len(groups), (DRAWS, len(groups)))
    return np.array([np.median(np.concatenate([groups[k] for k in drawn])) for drawn in draws])


def mann_whitney(old: Floats, new: Floats) -> tuple[float, float]:
    """p of the two-sided Mann-Whitney test (normal approximation, corrected for ties and continuity), and the
    share of pairs in which `new` is above `old`, ties counting half."""
    above = np.sign(new[:, None] - old[None, :])
    pairs = old.size * new.size
    effect = float((above.sum() / pairs + 1) / 2)
    _, ties = np.unique(np.concatenate([old, new]), return_counts=True)
    total = old.size + new.size
    spread = pairs / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if spread <= 0:
        return 1.0, effect
    z = max(0.0, abs(effect - 0.5) * pairs - 0.5) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2)), effect
