"""Photographs and cut-out objects, held in memory, and sprites made from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from jntrt.bench.sequences.pixels import read_image
from jntrt.runtime.errors import UserError
from jntrt.train.data.scene import MIN_PIXELS, OPAQUE, Image, Sprite

CUT_OUTS = ("sky", "fluent")  # RGBA with soft alpha
SILHOUETTES = ("shapes",)  # masks, to be filled with a texture
TEXTURE = 96  # pixels of a filled shape's side
MIN_PHOTO = 32  # pixels; pieces of photographs become patches and textures
HELD_OUT = 7  # every 7th photograph and object belongs to validation


@dataclass(frozen=True, eq=False)
class Assets:
    """photos: H×W×3 RGB; sky, things: sprites; silhouettes: 96×96 masks."""

    photos: list[Image]
    sky: list[Sprite]
    things: list[Sprite]
    silhouettes: list[Image]

    @classmethod
    def load(cls, images: Path, masks: Path, *, held_out: bool) -> Assets:
        """Reads the training part, or the validation part (`held_out`), of both folders.

        Objects and photographs are split by their place in the sorted listing, so that both parts are fixed.
        UserError when a folder has none, or a file shows nothing.
        """
        sky, things = (
            [Sprite.from_rgba(_rgba(path)) for path in _part(masks / kind, "*.png", held_out)]
            for kind in CUT_OUTS
        )
        silhouettes = [_mask(path) for kind in SILHOUETTES for path in _part(masks / kind, "*.png", held_out)]
        return cls([_photo(path) for path in _part(images, "*.jpg", held_out)], sky, things, silhouettes)


def random_sprite(assets: Assets, photo: Image, rng: np.random.Generator) -> Sprite:
    """A random object: cut-out, or a shape filled from a photograph (often `photo`) or noise."""
    kind = rng.random()
    if kind < 0.12:
        return assets.sky[rng.integers(len(assets.sky))]
    if kind < 0.32:
        return assets.things[rng.integers(len(assets.things))]
    mask = assets.silhouettes[rng.integers(len(assets.silhouettes))] if kind < 0.5 else blob(rng)
    source = photo if rng.random() < 0.25 else assets.photos[rng.integers(len(assets.photos))]
    texture = noise_texture(rng) if rng.random() < 0.12 else photo_texture(source, rng)
    alpha = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 1.6))
    if alpha.max() < 150:
        alpha = mask
    return Sprite.from_rgba(np.dstack((texture, alpha)))


def recoloured(sprite: Sprite, rng: np.random.Generator) -> Sprite:
    """The same shape in other colours: a distractor of the target's kind."""
    rgb = sprite.image[..., :3].astype(np.float32)
    mixed = rgb[..., rng.permutation(3)] * rng.uniform(0.5, 1.3, 3).astype(np.float32)
    capped = np.minimum(mixed, sprite.image[..., 3:])  # stays multiplied by alpha
    return Sprite(np.dstack((capped.astype(np.uint8), sprite.image[..., 3])), sprite.hull)


def photo_texture(photo: Image, rng: np.random.Generator, size: int = TEXTURE) -> Image:
    """size×size×3 piece of a photograph."""
    height, width = photo.shape[:2]
    side = int(rng.uniform(0.15, 0.7) * min(height, width))
    x, y = rng.integers(width - side + 1), rng.integers(height - side + 1)
    piece = photo[y : y + side, x : x + side]
    return np.asarray(cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def noise_texture(rng: np.random.Generator, size: int = TEXTURE) -> Image:
    """Coloured blotches, stripes or checks between two or more random colours."""
    low, high = rng.integers(0, 256, (2, 3))
    if rng.random() < 0.5:
        cells = int(rng.integers(2, 10))
        coarse = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        mode = cv2.INTER_CUBIC if rng.random() < 0.6 else cv2.INTER_NEAREST
        return np.asarray(cv2.resize(coarse, (size, size), interpolation=mode), np.uint8)
    angle, waves = rng.uniform(0, math.pi), rng.uniform(1, 7)
    ys, xs = np.mgrid[0:size, 0:size] / size
    wave = 0.5 + 0.5 * np.sin(2 * math.pi * waves * (xs * math.cos(angle) + ys * math.sin(angle)))
    if rng.random() < 0.5:
        wave = np.round(wave)
    stripes: Image = (low + (high - low) * wave[..., None]).clip(0, 255).astype(np.uint8)
    return stripes


def blob(rng: np.random.Generator, size: int = TEXTURE) -> Image:
    """size×size mask of a closed smooth outline: an ellipse bent by a few waves, or a rounded rectangle."""
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    radius = np.ones_like(angles)
    for order in range(2, 7):
        radius += rng.normal(0, 0.22 / order) * np.cos(order * angles + rng.uniform(0, 2 * math.pi))
    power = rng.choice([1.0, 1.0, 0.5, 0.3])
    x = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** power
    y = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power
    aspect = math.exp(rng.normal(0, 0.35))
    points = np.stack((x * radius * aspect, y * radius), axis=1)
    points = (points / np.abs(points).max() * 0.48 + 0.5) * size
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def displacement(rng: np.random.Generator) -> np.ndarray:
    """4×4×2 float32 smooth displacement field of about unit size, for `Sprite.deformed`."""
    return rng.standard_normal((4, 4, 2), dtype=np.float32)


def _part(folder: Path, pattern: str, held_out: bool) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    part = [path for number, path in enumerate(paths) if (number % HELD_OUT == HELD_OUT - 1) == held_out]
    if not part:
        raise UserError(f"{folder}: too few {pattern} files for training; give the folder with --data")
    return part


def _rgba(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        raise UserError(f"{path}: not an RGBA image")
    rgba = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), np.uint8)
    _check_opaque(rgba[..., 3], path)
    return rgba


def _mask(path: Path) -> Image:
    mask = np.asarray(cv2.resize(read_image(path)[..., 0], (TEXTURE, TEXTURE)), np.uint8)
    _check_opaque(mask, path)
    return mask


def _check_opaque(alpha: Image, path: Path) -> None:
    if np.count_nonzero(alpha > OPAQUE) < MIN_PIXELS:
        raise UserError(f"{path}: fewer than {MIN_PIXELS} opaque pixels")


def _photo(path: Path) -> Image:
    photo = read_image(path)
    if min(photo.shape[:2]) < MIN_PHOTO:
        raise UserError(f"{path}: a photograph has sides of at least {MIN_PHOTO} px")
    return photo
