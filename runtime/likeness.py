"""How much something looks like the target: what tells it from others of its kind.

A presence score says that something like the target is there, and of two birds it says so of both. Pixels
tell them apart while light and pose are nearly the same, as they are soon after a target was hidden:
correlation of small patches times likeness of their colours, against patches of the target that were seen on
the way, and against those of other things that the networks took for it.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.geometry import Box

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

SIDE = 24  # of a patch, in its own pixels
SHIFT = 4  # ± pixels that a box may be off by, and its patch
SPREAD = 8.0  # of the weight about a patch's middle: its corners are background
LEVELS = 8  # of each colour
KEPT = 12  # patches of each kind: the first one, and the latest of the others


def _weight() -> Floats:
    offset = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    line = np.exp(-np.square(offset / SPREAD))
    weight = np.outer(line, line)
    return np.asarray(weight / weight.sum(), np.float32)


_WEIGHT = _weight()
_ROOT = np.sqrt(_WEIGHT)[..., None]


class Views:
    """Patches of one thing, or of one kind of things."""

    def __init__(self) -> None:
        self._patches: list[Floats] = []  # weighted, mean 0, length 1
        self._colours: list[Floats] = []  # roots of the shares of colours

    def __len__(self) -> int:
        return len(self._patches)

    def add(self, seen: "Seen") -> None:
        """Remember what was `seen`, in place of the oldest but the first where there are many."""
        if len(self) == KEPT:
            del self._patches[1], self._colours[1]
        self._patches.append(seen.patches[len(seen.patches) // 2])
        self._colours.append(seen.colours)

    def likeness(self, seen: "Seen") -> float:
        """0 … 1: of what was `seen` to the nearest patch here; 0 where there is none."""
        if not self._patches:
            return 0.0
        correlation = (seen.patches @ np.stack(self._patches).T).max(axis=0)
        colours = np.stack(self._colours) @ seen.colours
        return max(0.0, float((correlation * colours).max()))


class Seen:
    """A box of a frame as patches: shifted a little, in weights that make products correlations."""

    def __init__(self, frame: Image, box: Box) -> None:
        """frame: H×W×3 uint8; box: x, y, w, h in its pixels; outside of it the border repeats."""
        x, y, w, h = box
        grown = (SIDE + 2 * SHIFT) / SIDE
        size = (max(2, round(w * grown)), max(2, round(h * grown)))
        piece = cv2.getRectSubPix(frame, size, (x + w / 2 - 0.5, y + h / 2 - 0.5))
        wide = cv2.resize(piece, (SIDE + 2 * SHIFT,) * 2, interpolation=cv2.INTER_AREA)
        rows = [
            _normalised(wide[dy : dy + SIDE, dx : dx + SIDE].astype(np.float32))
            for dy in range(0, 2 * SHIFT + 1, 2)
            for dx in range(0, 2 * SHIFT + 1, 2)
        ]
        self.patches = np.stack(rows)
        middle = wide[SHIFT : SHIFT + SIDE, SHIFT : SHIFT + SIDE] // (256 // LEVELS)
        place = (middle.astype(np.intp) @ (LEVELS * LEVELS, LEVELS, 1)).ravel()
        self.colours: Floats = np.sqrt(np.bincount(place, _WEIGHT.ravel(), LEVELS**3)).astype(np.float32)


def _normalised(patch: Floats) -> Floats:
    centred = (patch - (patch * _WEIGHT[..., None]).sum() / 3) * _ROOT
    flat: Floats = (centred / math.sqrt(float(np.square(centred).sum()) + 1e-6)).ravel()
    return flat
