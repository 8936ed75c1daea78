"""What tracking a frame gives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TrackResult:
    """Where the target is. For a bundle of batch B > 1, one row per target.

    box: float64 (4,) or (B, 4): x, y, w, h in pixels.
    score: presence at the chosen cell, 0 … 1, float or (B,). Box and score of an idle row are NaN.
    lost: score below the bundle's threshold, bool or (B,); a report only, the state moves all the same. With
    `redetect` also while the target is searched for.
    redetected: the search for a lost target has found it here, bool or (B,); never without `redetect`.
    """

    box: NDArray[np.float64]
    score: float | NDArray[np.float64]
    lost: bool | NDArray[np.bool_]
    redetected: bool | NDArray[np.bool_] = False
