"""A scene of flat sprites over a photograph, rendered into any rectangle of its frame.

Rendering a crop directly costs no whole frame: the same function makes training crops and the frames of
validation sequences. Coordinates are pixels of the scene's frame; the top-left pixel corner is (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.geometry import Box

Image = NDArray[np.uint8]
Affine = NDArray[np.float64]  # 2×3, maps (x, y, 1) in pixels
OPAQUE = 100  # alpha above this belongs to an object's outline
MIN_PIXELS = 12  # of an object


@dataclass(frozen=True, eq=False)
class Sprite:
    """An object to paste. image: H×W×4 uint8, RGB times alpha, then alpha; hull: K×2 outline points."""

    image: Image
    hull: NDArray[np.float64]

    @classmethod
    def from_rgba(cls, rgba: Image) -> Sprite:
        """Cuts `rgba` (H×W×4 uint8, plain alpha) to its object. Raises ValueError where nothing is opaque."""
        solid = rgba[..., 3] > OPAQUE
        if solid.sum() < MIN_PIXELS:
            raise ValueError("the cut-out has no opaque pixel")
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        cut = np.pad(rgba[top:bottom, left:right], ((2, 2), (2, 2), (0, 0)))
        alpha = cut[..., 3:].astype(np.uint16)
        cut = np.concatenate(((cut[..., :3] * alpha // 255).astype(np.uint8), cut[..., 3:]), axis=2)
        return cls(np.ascontiguousarray(cut), _outline(cut[..., 3]))

    @property
    def size(self) -> float:
        """Geometric mean of the outline's width and height in pixels of the image."""
        width, height = self.hull.max(axis=0) - self.hull.min(axis=0)
        return math.sqrt(width * height)

    def deformed(self, field: NDArray[np.float32], amount: float) -> Sprite:
        """The sprite bent by a smooth displacement `field` (G×G×2, about 1) times `amount` × its size."""
        height, width = self.image.shape[:2]
        grid = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(
            amount * self.size
        )
        xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        bent = cv2.remap(self.image, xs + grid[..., 0], ys + grid[..., 1], cv2.INTER_LINEAR)
        image = np.asarray(bent, np.uint8)
        if np.count_nonzero(image[..., 3] > OPAQUE) < MIN_PIXELS:
            return self
        return Sprite(image, _outline(image[..., 3]))


@dataclass(frozen=True)
class Pose:
    """Where a sprite is: centre in frame pixels, size (its `Sprite.size` in frame pixels), angle in radians,
    stretch (log of the aspect's change), mirrored or not."""

    x: float
    y: float
    size: float
    angle: float = 0.0
    stretch: float = 0.0
    mirrored: bool = False

    def affine(self, sprite: Sprite) -> Affine:
        """Pixels of the sprite's image (pixel corners at integers) → pixels of the frame."""
        scale = self.size / sprite.size
        sx, sy = scale * math.exp(self.stretch / 2), scale * math.exp(-self.stretch / 2)
        if self.mirrored:
            sx = -sx
        c, s = math.cos(self.angle), math.sin(self.angle)
        linear = np.array([[c * sx, -s * sy], [s * sx, c * sy]])
        middle = (sprite.hull.max(axis=0) + sprite.hull.min(axis=0)) / 2
        return np.concatenate((linear, (np.array([self.x, self.y]) - linear @ middle)[:, None]), axis=1)

    def box(self, sprite: Sprite) -> Box:
        """x, y, w, h of the sprite's outline in the frame, not clipped."""
        matrix = self.affine(sprite)
        points = sprite.hull @ matrix[:, :2].T + matrix[:, 2]
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


@dataclass(frozen=True, eq=False)
class View:
    """All that a camera sees at one moment. layers: back to front; camera: photograph → frame."""

    photo: Image
    camera: Affine
    layers: Sequence[tuple[Sprite, Pose]]
    width: int
    height: int
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bias: float = 0.0
    blur: tuple[float, float] = (0.0, 0.0)  # motion during the exposure, frame pixels
    noise: float = 0.0  # standard deviation, grey levels

    def render(
        self,
        corner: tuple[float, float],
        side: tuple[float, float],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> Image:
        """The rectangle at `corner` with `side` (w, h, frame pixels) as size[1]×size[0]×3 RGB, black outside
        the frame."""
        sx, sy = size[0] / side[0], size[1] / side[1]
        to_crop = np.array([[sx, 0.0, -corner[0] * sx], [0.0, sy, -corner[1] * sy]])
        out = _warp(self.photo, _chain(to_crop, self.camera), size, cv2.BORDER_REFLECT_101)
        for sprite, pose in self.layers:
            _paste(out, sprite, _chain(to_crop, pose.affine(sprite)))
        length = math.hypot(self.blur[0] * sx, self.blur[1] * sy)
        if length > 1.5:
            out = np.asarray(cv2.filter2D(out, -1, _streak(self.blur[0] * sx, self.blur[1] * sy)), np.uint8)
        values = out.astype(np.float32)
        values *= np.asarray(self.gain, np.float32)
        if self.bias or self.noise:
            values += np.float32(self.bias)
        if self.noise:
            grain = rng.standard_normal((size[1], size[0], 1), dtype=np.float32)
            values += grain * np.float32(self.noise)
        out = np.clip(values, 0, 255).astype(np.uint8)
        left, top = round(-corner[0] * sx), round(-corner[1] * sy)
        right, bottom = round((self.width - corner[0]) * sx), round((self.height - corner[1]) * sy)
        out[: max(0, top)] = 0
        out[max(0, bottom) :] = 0
        out[:, : max(0, left)] = 0
        out[:, max(0, right) :] = 0
        return out


def _outline(alpha: Image) -> NDArray[np.float64]:
    """Convex hull (K×2, pixel corners) of the opaque pixels; each row's two ends are enough to find it."""
    solid = alpha > OPAQUE
    rows = np.flatnonzero(solid.any(axis=1))
    first = solid[rows].argmax(axis=1)
    last = solid.shape[1] - solid[rows, ::-1].argmax(axis=1)
    points = [(x, y + dy) for ends in (first, last) for x, y in zip(ends, rows, strict=True) for dy in (0, 1)]
    hull: NDArray[np.float64] = cv2.convexHull(np.array(points, np.float32))[:, 0].astype(np.float64)
    return hull


def _chain(outer: Affine, inner: Affine) -> Affine:
    linear = outer[:, :2] @ inner[:, :2]
    return np.concatenate((linear, (outer[:, :2] @ inner[:, 2] + outer[:, 2])[:, None]), axis=1)


def _warp(image: Image, matrix: Affine, size: tuple[int, int], border: int) -> Image:
    """Bilinear warp; a strong reduction averages first, as a camera does."""
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    while scale < 0.6 and min(image.shape[:2]) > 8:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        factors = np.diag([image.shape[1] / width, image.shape[0] / height])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        matrix = np.concatenate((matrix[:, :2] @ factors, matrix[:, 2:]), axis=1)
        scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    # OpenCV's integer coordinates are pixel centres; the affine maps pixel corners.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return np.asarray(
        cv2.warpAffine(image, centred, size, flags=cv2.INTER_LINEAR, borderMode=border), np.uint8
    )


def _paste(out: Image, sprite: Sprite, matrix: Affine) -> None:
    """Puts the sprite over `out` in place; only the pixels of its bounding rectangle are touched."""
    height, width = sprite.image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    right = min(math.ceil(corners[:, 0].max()) + 1, out.shape[1])
    bottom = min(math.ceil(corners[:, 1].max()) + 1, out.shape[0])
    if left >= right or top >= bottom:
        return
    shifted = matrix.copy()
    shifted[:, 2] -= (left, top)
    patch = _warp(sprite.image, shifted, (right - left, bottom - top), cv2.BORDER_CONSTANT)
    under = out[top:bottom, left:right].astype(np.uint16)
    under *= 255 - patch[..., 3:].astype(np.uint16)
    under //= 255
    out[top:bottom, left:right] = np.minimum(under + patch[..., :3], 255)


def _streak(dx: float, dy: float) -> NDArray[np.float32]:
    """Kernel of a straight motion by (dx, dy) pixels."""
    length = min(math.hypot(dx, dy), 15.0)
    reach = math.ceil(length / 2)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for t in np.linspace(-0.5, 0.5, 4 * reach + 1):
        angle = math.atan2(dy, dx)
        kernel[reach + round(t * length * math.sin(angle)), reach + round(t * length * math.cos(angle))] += 1
    return np.asarray(kernel / kernel.sum(), np.float32)
