"""Activation ranges: what the Linears of a track graph read, over the calibration crops.

One pass in fp32 collects a histogram of magnitudes for each tensor that int8 would quantise and the largest
magnitude of every other one (float16 needs only that). Every range method reads the same histograms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jntrt.calib.graph.view import Array
from jntrt.runtime.errors import UserError

BINS = 2048
LEVELS = 127
SMALLEST = 1e-30  # largest magnitude of a tensor that has a range of its own; its scale is far from subnormal
METHODS = ("minmax", "percentile", "mse", "entropy")
PERCENTILE = 99.99

Counts = NDArray[np.float64]


@dataclass
class Magnitudes:
    """A histogram of |x| that grows with its data: `BINS` bins over 0 … `limit`.

    When a larger value comes, the range doubles and neighbouring bins are added, so that one pass is enough.
    channels: largest magnitude along the last axis, one value a channel, where the tensor's rows are tokens.
    """

    limit: float = 0.0
    largest: float = 0.0
    counts: Counts = field(default_factory=lambda: np.zeros(BINS))
    channels: NDArray[np.float32] | None = None

    def add(self, values: Array) -> None:
        """Counts the magnitudes of an array; UserError when it holds a value that is not finite."""
        magnitudes = np.abs(values)
        top = float(magnitudes.max(initial=0.0))
        if not np.isfinite(top):
            raise UserError("not finite")
        if values.ndim == 2:
            rows = magnitudes.max(axis=0)
            self.channels = rows if self.channels is None else np.maximum(self.channels, rows)
        self.largest = max(self.largest, top)
        if self.limit == 0.0:
            self.limit = top
            if top == 0.0:
                return
        while self.limit < top:
            self.counts = np.concatenate((self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2)))
            self.limit *= 2
        # Edges in double precision: those of a subnormal limit would coincide in single.
        ends = (np.float64(0), np.float64(self.limit))
        self.counts += np.histogram(magnitudes, bins=BINS, range=ends)[0]

    @property
    def centres(self) -> Counts:
        """Magnitude at the middle of each bin."""
        return (np.arange(BINS) + 0.5) * self.limit / BINS


@dataclass
class Observations:
    """What a pass over the crops saw.

    magnitudes: by name, for the tensors that int8 quantises; peaks: largest magnitude of every float value.
    """

    magnitudes: dict[str, Magnitudes] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)

    def add_peak(self, name: str, value: float) -> None:
        """Takes one crop's peak of a value."""
        self.peaks[name] = max(self.peaks.get(name, 0.0), value)


def choose_ranges(
    magnitudes: Mapping[str, Magnitudes], method: str, percentile: float = PERCENTILE
) -> dict[str, float]:
    """Largest magnitude to represent, by tensor: `minmax`, `percentile`, `mse` or `entropy`.

    A tensor that was zero throughout, or too small for a scale in float32, gets range 1. Raises UserError for
    an unknown method.
    """
    functions: dict[str, Callable[[Magnitudes], float]] = {
        "minmax": lambda seen: seen.largest,
        "percentile": lambda seen: percentile_range(seen, percentile),
        "mse": mse_range,
        "entropy": entropy_range,
    }
    if method not in functions:
        raise UserError(f"--method {method}: choose one of {', '.join(METHODS)}")
    function = functions[method]
    return {name: function(seen) if seen.largest > SMALLEST else 1.0 for name, seen in magnitudes.items()}


def clipped_share(seen: Magnitudes, limit: float) -> float:
    """Share of the observed magnitudes above `limit`."""
    total = float(seen.counts.sum())
    return float(seen.counts[seen.centres > limit].sum()) / total if total else 0.0


def percentile_range(seen: Magnitudes, percentile: float) -> float:
    """Smallest bin edge that `percentile` % of the magnitudes do not exceed; never above the largest."""
    share = np.cumsum(seen.counts) / seen.counts.sum()
    edge = (int(np.searchsorted(share, percentile / 100)) + 1) * seen.limit / BINS
    return min(edge, seen.largest)


def mse_range(seen: Magnitudes) -> float:
    """The range with the least mean squared error of 127 levels: rounding inside, clipping outside."""
    candidates = np.linspace(0.2, 1.0, 81) * seen.largest
    return float(candidates[int(np.argmin([squared_error(seen, c) for c in candidates]))])


def squared_error(seen: Magnitudes, limit: float) -> float:
    """Mean squared error of quantising the observed magnitudes with 127 levels up to `limit`."""
    x = seen.centres
    step = limit / LEVELS
    levels = np.minimum(np.rint(x / step), LEVELS)
    # Inside a level the values are spread evenly where bins are wider than steps: step²/12 at least.
    width = seen.limit / BINS
    error = (x - levels * step) ** 2 + min(width, step) ** 2 / 12
    return float((error * seen.counts).sum() / seen.counts.sum())


def entropy_range(seen: Magnitudes) -> float:
    """The range whose 128-level histogram diverges least from the observed one (Kullback–Leibler).

    Zeros are taken out: after a ReLU they are half of all values, and any range holds them.
    """
    counts = seen.counts.copy()
    counts[0] = counts[1]
    best, best_divergence = seen.largest, np.inf
    used = int(np.ceil(seen.largest / seen.limit * BINS))
    for end in range(LEVELS + 1, used + 1, 16):
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        groups = np.minimum(np.arange(end) * (LEVELS + 1) // end, LEVELS)
        filled = counts[:end] > 0
        sums = np.bincount(groups, weights=counts[:end], minlength=LEVELS + 1)
        sizes = np.bincount(groups, weights=filled, minlength=LEVELS + 1)
        spread = np.where(filled, (sums / np.maximum(sizes, 1))[groups], 0.0)
        divergence = _divergence(reference, spread)
        if divergence < best_divergence:
            best, best_divergence = end * seen.limit / BINS, divergence
    return min(best, seen.largest)


def _divergence(p: Counts, q: Counts) -> float:
    p, q = p / p.sum(), q / max(float(q.sum()), 1e-30)
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-9))).sum())
