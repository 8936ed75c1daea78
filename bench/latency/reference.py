"""A fixed piece of a network, timed after every frame: runs at different times are compared through it."""

import time

import numpy as np

CHANNELS, SIDE, KERNEL = 16, 128, 3
_WIDER = 4 * CHANNELS


class ReferenceProduct:
    """A depthwise and a pointwise convolution in NumPy, on one thread, about two milliseconds.

    As a network it multiplies and it moves what does not stay in a core's own cache. A product that does stay
    there does not follow what a host's other guests do to a network: on a host that drifts by ±8 % between
    runs of ten seconds ratios to such a product drifted as much, ratios to this one by ±1 %.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        margin = SIDE + KERNEL - 1
        self._taken = rng.random((CHANNELS, margin, margin), dtype=np.float32)
        self._depthwise = rng.random((KERNEL, KERNEL, CHANNELS, 1, 1), dtype=np.float32)
        self._pointwise = rng.random((1, _WIDER, CHANNELS), dtype=np.float32)
        self._part, self._sum = np.empty((2, CHANNELS, SIDE, SIDE), np.float32)
        # Slices so small that the BLAS takes one thread for each.
        self._out = np.empty((SIDE * SIDE // _WIDER, _WIDER, _WIDER), np.float32)
        self.milliseconds()

    def milliseconds(self) -> float:
        """Of one run."""
        begin = time.perf_counter()
        self._sum.fill(0)
        for row in range(KERNEL):
            for column in range(KERNEL):
                window = self._taken[:, row : row + SIDE, column : column + SIDE]
                np.multiply(window, self._depthwise[row, column], out=self._part)
                np.add(self._sum, self._part, out=self._sum)
        np.maximum(self._sum, 0, out=self._sum)
        cells = self._sum.reshape(CHANNELS, -1, _WIDER).transpose(1, 0, 2)
        np.matmul(self._pointwise, cells, out=self._out)
        return (time.perf_counter() - begin) * 1e3
