"""Crops to check a graph with, drawn by a seeded procedure, so that no data licence travels with a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.export.families.contract import Box, Family
from jntrt.export.families.crops import conventions_of
from jntrt.runtime.crop import border_colour
from jntrt.runtime.geometry import start_box
from jntrt.runtime.inputs import crops, state_inputs

WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True, eq=False)
class Scene:
    """Two frames (H×W×3 uint8 RGB) and the target's `box` (x, y, w, h in pixels) in the first."""

    template_frame: NDArray[np.uint8]
    search_frame: NDArray[np.uint8]
    box: Box


def draw_scenes(count: int, seed: int) -> Iterator[Scene]:
    """`count` scenes with a patterned target that has moved by up to half its side in the second frame."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        scene, target = _texture(rng, HEIGHT, WIDTH), _texture(rng, 80, 80)
        w, h = rng.uniform(24, 72, 2)
        x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
        box = (float(x), float(y), float(w), float(h))
        moved = rng.uniform(-0.5, 0.5, 2) * min(w, h)
        yield Scene(
            _paste(scene, target, box), _paste(scene, target, (x + moved[0], y + moved[1], w, h)), box
        )


def draw_samples(family: Family, recipe: Any, count: int, seed: int = 20) -> dict[str, NDArray[Any]]:
    """`count` samples for the graphs of `recipe`: `template` uint8 S×Sz×Sz×3, `search` uint8 S×Sx×Sx×3, the
    family's side inputs and state inputs, all by the graphs' names.

    Some crops cross the frame's border.
    """
    specs = conventions_of(family, recipe)
    rows: dict[str, list[NDArray[Any]]] = {}
    for scene in draw_scenes(count, seed):
        box = start_box(scene.box, specs.state)
        sample = {
            name: crops(frame, [box], spec, border=border_colour(scene.template_frame, spec))[0]
            for name, frame, spec in (
                ("template", scene.template_frame, specs.template),
                ("search", scene.search_frame, specs.search),
            )
        }
        told = state_inputs(specs.state_inputs, [box], specs.search)
        sample |= {name: value[0] for name, value in told.items()}
        for name, value in {**sample, **family.side_inputs(recipe, box)}.items():
            rows.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in rows.items()}


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
