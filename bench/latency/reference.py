"""A fixed product, timed around every call of an engine: runs at different times are compared through it."""

import time

import numpy as np

# Small matrices in one stack: the BLAS takes one thread for each, and all of them stay in a core's cache. On
# two threads a busy neighbour makes the product up to ten times as slow, and the engine hardly.
STACK, SIDE = 24, 48
REPEATS = 16  # of the stack in one timed call, about a millisecond
CALLS = 8


class ReferenceProduct:
    """A float32 product of `STACK` pairs of `SIDE`×`SIDE` matrices in NumPy, on one thread."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._left, self._right = rng.random((2, STACK, SIDE, SIDE), dtype=np.float32)
        self._out = np.empty((STACK, SIDE, SIDE), np.float32)
        self.milliseconds()

    def milliseconds(self) -> float:
        """The least of `CALLS` calls: what the machine does undisturbed."""
        times = []
        for _ in range(CALLS):
            begin = time.perf_counter()
            for _ in range(REPEATS):
                np.matmul(self._left, self._right, out=self._out)
            times.append(time.perf_counter() - begin)
        return min(times) * 1e3
