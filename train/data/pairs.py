"""Training pairs: template crop, search crop around a jittered box, target, and whether it is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.export.families.contract import Objective
from jntrt.export.families.crops import Conventions
from jntrt.runtime.bundle.conventions import StateInput
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import Box, CropRectangle, crop_rectangle, state_input
from jntrt.train.data.assets import Assets
from jntrt.train.data.regions import Regions
from jntrt.train.data.scene import Image
from jntrt.train.data.synthetic import FRAME, Shot, random_pair
from jntrt.train.data.videos import Still, VideoPairs

BRIGHTNESS = 0.2
BRAKED = 1 / 3  # share of the pairs that a fine-tuned network stays itself on


@dataclass(frozen=True, eq=False)
class Pair:
    """One sample.

    template, search: S×S×3 uint8 RGB; side_inputs: what the network takes beside, by name;
    previous_size: w, h of the box that the search crop was made around, in pixels of it; box: cx, cy, w, h of
    the target in units of the search crop (0: absent); present: whether the target is in the search crop;
    region: whether it is a region of a photograph, not an object.
    """

    template: Image
    search: Image
    side_inputs: dict[str, NDArray[Any]]
    previous_size: NDArray[np.float32]
    box: NDArray[np.float32]
    present: bool
    region: bool


class PairSource:
    """Draws pairs, `positive` (ρ) of them with the target in the search crop.

    objective: says how far the tracker may be off, and what it takes beside the crops. crops: how they are
    cut. synthetic: the share of pairs that are rendered scenes; the others come from `videos`. regions: a
    third of all pairs come from there.
    """

    def __init__(
        self,
        objective: Objective,
        crops: Conventions,
        assets: Assets | None,
        videos: VideoPairs | None,
        synthetic: float = 0.7,
        positive: float = 0.7,
        regions: Regions | None = None,
    ) -> None:
        if assets is None and videos is None:
            raise ValueError("a pair source needs scenes, videos or both")
        self.objective, self._assets, self._videos = objective, assets, videos
        self._crops = crops
        self._synthetic = 1.0 if videos is None else 0.0 if assets is None else synthetic
        self._positive = positive
        self._regions = regions

    def draw(self, rng: np.random.Generator) -> Pair:
        """One random pair; the same generator state gives the same pair.

        UserError where a frame cannot be read, or no pair can be made of what is there.
        """
        absent = bool(rng.random() >= self._positive)  # once: positives are refused more often than negatives
        for _ in range(100):
            pair = self._try(rng, absent)
            if pair is not None:
                return pair
        raise UserError("a hundred pairs in a row had no target of 2 px or more: check the annotations")

    def _try(self, rng: np.random.Generator, absent: bool) -> Pair | None:
        if self._regions is not None and rng.random() < BRAKED:
            first, second = self._regions.draw(rng)
            return self._pair(first, second, second.box, False, rng)
        if self._assets is not None and rng.random() < self._synthetic:
            # Half of the negatives show the scene without its target (one that is a part of the photograph
            # leaves with it), half another scene altogether.
            same = rng.random() < 0.5
            first, second = random_pair(self._assets, rng, absent and same)
            if absent and not same:
                second = random_pair(self._assets, rng, False)[1]
            around = second.box or _wander(first.box, FRAME, rng)
            return self._pair(first, second, around, absent, rng)
        assert self._videos is not None
        before, after = self._videos.draw(rng, absent)
        around = after.box or _wander(before.box, after.size, rng)
        return self._pair(before, after, around, absent, rng)

    def _pair(
        self,
        first: Shot | Still,
        second: Shot | Still,
        around: Box | None,
        absent: bool,
        rng: np.random.Generator,
    ) -> Pair | None:
        if first.box is None or around is None or min(first.box[2:]) < 2 or min(around[2:]) < 2:
            return None
        z = crop_rectangle(first.box, self._crops.template)
        believed = self.objective.jitter(around, rng)
        x = crop_rectangle(believed, self._crops.search)
        box = np.zeros(4, np.float32)
        if not absent:
            bx, by, bw, bh = around
            box[:] = (
                (bx + bw / 2 - x.x) / x.side,
                (by + bh / 2 - x.y) / x.side,
                bw / x.side,
                bh / x.side,
            )
            if not (0.02 < box[0] < 0.98 and 0.02 < box[1] < 0.98):
                return None
        template = _render(first, z, self._crops.template.size, rng)
        search = _render(second, x, self._crops.search.size, rng)
        previous = state_input(StateInput.SIZE, believed, self._crops.search)
        side_inputs = self.objective.side_inputs(first.box)
        region = isinstance(first, Shot) and first.region
        return Pair(template, search, side_inputs, previous, box, not absent, region)


def augmented(pair: Pair, objective: Objective, rng: np.random.Generator) -> Pair:
    """Both crops mirrored together (half of the time), rarely grey, brightness of each changed."""
    template, search, box, side_inputs = pair.template, pair.search, pair.box, pair.side_inputs
    if rng.random() < 0.5:
        template, search = template[:, ::-1], search[:, ::-1]
        side_inputs = objective.mirrored(side_inputs)
        if pair.present:
            box = box.copy()
            box[0] = 1 - box[0]
    if rng.random() < 0.05:
        template, search = (
            np.broadcast_to(c.mean(axis=2, keepdims=True), c.shape) for c in (template, search)
        )
    crops = []
    for image in (template, search):
        change = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
        crops.append(np.clip(image * np.float32(change), 0, 255).astype(np.uint8))
    return replace(pair, template=crops[0], search=crops[1], side_inputs=side_inputs, box=box)


def batches(
    source: PairSource, size: int, seed: int, first: int = 0, step: int = 1
) -> Iterator[tuple[int, list[Pair]]]:
    """Endless (number, pairs): batch `number` depends on the seed and its number alone, so that a run can go
    on anywhere and several workers can share the numbers (`first`, `step`)."""
    number = first
    while True:
        rng = np.random.default_rng((seed, number))
        yield number, [augmented(source.draw(rng), source.objective, rng) for _ in range(size)]
        number += step


def stack(pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """The pairs' fields and side inputs by name, with the sample on the first axis."""
    names = ("template", "search", "previous_size", "box", "present", "region")
    arrays = {name: np.stack([np.asarray(getattr(pair, name)) for pair in pairs]) for name in names}
    for name in pairs[0].side_inputs:
        arrays[name] = np.stack([pair.side_inputs[name] for pair in pairs])
    return arrays


def _render(shot: Shot | Still, rectangle: CropRectangle, size: int, rng: np.random.Generator) -> Image:
    if isinstance(shot, Still):
        return shot.render(rectangle, size)
    side = float(rectangle.side)
    return shot.view.render((rectangle.x, rectangle.y), (side, side), (size, size), rng)


def _wander(box: Box | None, frame: tuple[int, int], rng: np.random.Generator) -> Box | None:
    """Where in a frame (width, height) a tracker might be after it has lost the target."""
    if box is None:
        return None
    x, y, w, h = box
    far = 1.5 * math.sqrt(w * h)
    x = float(np.clip(x + rng.normal(0, far), 0, max(1.0, frame[0] - w)))
    y = float(np.clip(y + rng.normal(0, far), 0, max(1.0, frame[1] - h)))
    return x, y, w, h
