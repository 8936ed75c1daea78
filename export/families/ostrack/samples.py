"""Crops to check a graph with, drawn by a seeded procedure, so that no data licence travels with a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.bundle.conventions import CropSpec
from jntrt.runtime.inputs import crops, target_inputs
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240


def draw_samples(recipe: Recipe, count: int, seed: int = 20) -> Mapping[str, NDArray[Any]]:
    """`count` samples: `template` uint8 S×Sz×Sz×3, `search` uint8 S×Sx×Sx×3, `target_box` float32 S×4 in the
    recipe's format and `template_weights` float32 S×Nz, sum 1.

    A sample is two drawn frames, with a patterned target that has moved by up to half its side in the second;
    some crops cross the frame's border.
    """
    rng = np.random.default_rng(seed)
    template = CropSpec(recipe.template_size, recipe.template_factor)
    search = CropSpec(recipe.search_size, recipe.search_factor)
    rows: dict[str, list[NDArray[Any]]] = {
        k: [] for k in ("template", "search", "target_box", "template_weights")
    }
    for _ in range(count):
        scene, target = _texture(rng, HEIGHT, WIDTH), _texture(rng, 80, 80)
        w, h = rng.uniform(24, 72, 2)
        x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
        box = (float(x), float(y), float(w), float(h))
        moved = rng.uniform(-0.5, 0.5, 2) * min(w, h)
        template_frame = _paste(scene, target, box)
        search_frame = _paste(scene, target, (x + moved[0], y + moved[1], w, h))
        inputs = target_inputs(template_frame, [box], template, recipe.target_box_format, rows)
        for name, value in {**inputs, "search": crops(search_frame, [box], search)}.items():
            rows[name].append(value)
    return {name: np.concatenate(values) for name, values in rows.items()}


def _texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A coloured pattern of a few waves and some noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.full((height, width, 3), 128, np.float32)
    for _ in range(5):
        fx, fy, phase = rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25), rng.uniform(0, 6.3)
        picture += rng.uniform(-40, 40, 3).astype(np.float32) * np.sin(fx * x + fy * y + phase)[..., None]
    picture += rng.normal(0, 8, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _paste(scene: NDArray[np.uint8], target: NDArray[np.uint8], box: tuple[float, ...]) -> NDArray[np.uint8]:
    """The scene with the target's pattern in `box`."""
    x1, y1 = max(int(box[0]), 0), max(int(box[1]), 0)
    frame = scene.copy()
    region = frame[y1 : int(box[1] + box[3]), x1 : int(box[0] + box[2])]
    region[:] = target[: region.shape[0], : region.shape[1]]
    return frame
