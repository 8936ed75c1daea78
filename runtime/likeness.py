"""How much something looks like the target: what tells it from others of its kind.

A presence score says that something like the target is there, and of two birds it says so of both. Pixels
tell them apart: correlation of small patches times likeness of their colours, against patches of the target
that were seen on the way, and against those of other things that the networks took for it. Colours count
for more, as they outlast a turn; they are taken without most of their brightness, which outlasts a shadow,
and of those pixels whose colour is rare about the box, which outlasts another background.
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
WIDE = 48  # of the patch with what lies about it
SPREAD = 8.0  # of the weight about a patch's middle: its corners are background
NEAR = (13.5, 22.5)  # from the middle to the surroundings' first and last pixels
TINTS, SHADES = 12, 4  # levels of the shares of red and of green, and of brightness
TINT = 0.31  # the shares' range about a third, either way: stronger colours are rare
POWER = 3  # of the likeness of colours, which lies near 1 for most things
KEPT = 12  # patches of each kind


def _weight(side: int, spread: float) -> Floats:
    offset = np.arange(side, dtype=np.float32) - (side - 1) / 2
    line = np.exp(-np.square(offset / spread))
    weight = np.outer(line, line)
    return np.asarray(weight / weight.sum(), np.float32)


def _neighbours(levels: int) -> Floats:
    """Shares a level's count with the next ones: levels × levels."""
    shared = 0.5 * np.eye(levels) + 0.25 * (np.eye(levels, k=1) + np.eye(levels, k=-1))
    return np.asarray(shared / shared.sum(axis=0), np.float32)


def _surroundings() -> Floats:
    offset = np.abs(np.arange(WIDE) - (WIDE - 1) / 2)
    away = np.maximum(offset, offset[:, None])
    ring = (away >= NEAR[0]) & (away <= NEAR[1])
    return np.asarray(ring / ring.sum(), np.float32)


_WEIGHT = _weight(SIDE, SPREAD)
_ROOT = np.sqrt(_WEIGHT)[..., None]
_INSIDE = np.pad(_weight(SIDE, SIDE / 2), (WIDE - SIDE) // 2)
_OUTSIDE = _surroundings()
_SHARED = np.kron(np.kron(_neighbours(TINTS), _neighbours(TINTS)), _neighbours(SHADES))


class Views:
    """Patches of one thing, or of one kind of things, each with how much it is worth."""

    def __init__(self) -> None:
        self._patches: list[Floats] = []  # weighted, mean 0, length 1
        self._colours: list[Floats] = []  # roots of the shares of colours
        self._worth: list[float] = []

    def __len__(self) -> int:
        return len(self._patches)

    def add(self, seen: "Seen", worth: float) -> None:
        """Remember what was `seen`, in place of what is worth least where there are many."""
        if len(self) == KEPT:
            least = int(np.argmin(self._worth))
            if worth < self._worth[least]:
                return
            del self._patches[least], self._colours[least], self._worth[least]
        self._patches.append(seen.patches[len(seen.patches) // 2])
        self._colours.append(seen.colours)
        self._worth.append(worth)

    def likeness(self, seen: "Seen") -> float:
        """0 … 1: of what was `seen` to the nearest patch here; 0 where there is none."""
        if not self._patches:
            return 0.0
        correlation = (seen.patches @ np.stack(self._patches).T).max(axis=0)
        colours = (np.stack(self._colours) @ seen.colours) ** POWER
        return max(0.0, float((correlation * colours).max()))


class Seen:
    """A box of a frame as patches: shifted a little, in weights that make products correlations."""

    def __init__(self, frame: Image, box: Box) -> None:
        """frame: H×W×3 uint8; box: x, y, w, h in its pixels; outside of it the border repeats."""
        x, y, w, h = box
        size = (max(2, round(w * WIDE / SIDE)), max(2, round(h * WIDE / SIDE)))
        piece = cv2.getRectSubPix(frame, size, (x + w / 2 - 0.5, y + h / 2 - 0.5))
        wide = np.asarray(cv2.resize(piece, (WIDE, WIDE), interpolation=cv2.INTER_AREA), np.uint8)
        first = (WIDE - SIDE) // 2 - SHIFT
        starts = range(first, first + 2 * SHIFT + 1, 2)
        self.patches = np.stack(
            [_normalised(wide[y : y + SIDE, x : x + SIDE].astype(np.float32)) for y in starts for x in starts]
        )
        self.colours = _colours(wide)


def _colours(wide: Image) -> Floats:
    """Roots of the shares of colours of what stands out from its surroundings, TINTS²·SHADES."""
    level = _levels(wide).ravel()
    inside, outside = (
        _SHARED @ np.bincount(level, weight.ravel(), len(_SHARED)).astype(np.float32)
        for weight in (_INSIDE, _OUTSIDE)
    )
    # Of a pixel inside, by its colour: how probably it is one of the thing and not of what lies behind it.
    own = inside * (inside / (inside + outside + 1e-6))
    return np.asarray(np.sqrt(own / own.sum()), np.float32)


def _levels(wide: Image) -> NDArray[np.intp]:
    pixels = wide.astype(np.float32)
    total = pixels.sum(axis=-1) + 12.0  # the shares of a black pixel are thirds
    tints = ((pixels[..., :2] + 4.0) / total[..., None] - 1 / 3) / TINT * 0.5 + 0.5
    red, green = np.moveaxis(np.clip(tints * TINTS, 0, TINTS - 1).astype(np.intp), -1, 0)
    shade = (total * (SHADES / (3 * 255 + 13))).astype(np.intp)
    levels: NDArray[np.intp] = (red * TINTS + green) * SHADES + shade
    return levels


def _normalised(patch: Floats) -> Floats:
    centred = (patch - (patch * _WEIGHT[..., None]).sum() / 3) * _ROOT
    flat: Floats = (centred / math.sqrt(float(np.square(centred).sum()) + 1e-6)).ravel()
    return flat
