"""A fixed product, timed beside every call of an engine: runs at different times are compared through it."""

import time

import numpy as np

SIDE = 640
CALLS = 5
REST = 0.02  # seconds; until then the product's idle threads turn in a loop


class ReferenceProduct:
    """A float32 product of `SIDE`×`SIDE` matrices in NumPy, with its own choice of threads."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._left, self._right = rng.random((2, SIDE, SIDE), dtype=np.float32)
        self._out = np.empty((SIDE, SIDE), np.float32)
        self.milliseconds()

    def milliseconds(self) -> float:
        """The median of `CALLS` products."""
        times = []
        for _ in range(CALLS):
            begin = time.perf_counter()
            np.matmul(self._left, self._right, out=self._out)
            times.append(time.perf_counter() - begin)
        time.sleep(REST)
        return float(np.median(times)) * 1e3
