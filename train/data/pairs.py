"""Training pairs: template crop, search crop around a jittered box, target, and whether it is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.bundle.conventions import CropSpec
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import Box, CropRectangle, crop_rectangle
from jntrt.runtime.inputs import side_inputs
from jntrt.train.data.assets import Assets
from jntrt.train.data.scene import Image
from jntrt.train.data.synthetic import FRAME, Shot, random_pair
from jntrt.train.data.videos import Still, VideoPairs
from numpy.typing import NDArray

SCALE_JITTER = 0.25  # OSTrack's: each side times exp(0.25·N(0, 1))
CENTRE_JITTER = 3.0  # at search factor 4: centre + 3·sqrt(w·h)·(U - 0.5) per axis
STEADY = 0.4  # of both jitters, in the pairs of a steady tracker
BRIGHTNESS = 0.2


@dataclass(frozen=True, eq=False)
class Pair:
    """One sample.

    template, search: S×S×3 uint8 RGB; target_box: 4 float32 in the recipe's format; tokens: Nz bool, the
    template tokens under the target; box: cx, cy, w, h of the target in units of the search crop (0: absent);
    present: whether the target is in the search crop.
    """

    template: Image
    search: Image
    target_box: NDArray[np.float32]
    tokens: NDArray[np.bool_]
    box: NDArray[np.float32]
    present: bool


class PairSource:
    """Draws pairs, `positive` (ρ) of them with the target in the search crop.

    synthetic: the share of pairs that are rendered scenes; the others come from `videos`.
    steady: the share of pairs with less jitter than OSTrack's.
    """

    def __init__(
        self,
        recipe: Recipe,
        assets: Assets | None,
        videos: VideoPairs | None,
        synthetic: float = 0.7,
        positive: float = 0.7,
        steady: float = 0.0,
    ) -> None:
        if assets is None and videos is None:
            raise ValueError("a pair source needs scenes, videos or both")
        self._recipe, self._assets, self._videos = recipe, assets, videos
        self._synthetic = 1.0 if videos is None else 0.0 if assets is None else synthetic
        self._positive, self._steady = positive, steady

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
        recipe = self._recipe
        if first.box is None or around is None or min(first.box[2:]) < 2 or min(around[2:]) < 2:
            return None
        template_spec = CropSpec(recipe.template_size, recipe.template_factor)
        search_spec = CropSpec(recipe.search_size, recipe.search_factor)
        z = crop_rectangle(first.box, template_spec)
        share = STEADY if rng.random() < self._steady else 1.0
        x = crop_rectangle(jitter(around, search_spec.factor, rng, share), search_spec)
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
        template = _render(first, z, recipe.template_size, rng)
        search = _render(second, x, recipe.search_size, rng)
        wanted = ("target_box", "template_weights")
        side = side_inputs([first.box], template_spec, recipe.target_box_format, wanted)
        tokens = side["template_weights"][0] > 0
        return Pair(template, search, side["target_box"][0], tokens, box, not absent)


def jitter(box: Box, factor: float, rng: np.random.Generator, share: float = 1.0) -> Box:
    """OSTrack's search jitter: what the tracker believes before it sees the frame.

    The shift shrinks with the search factor, so that as many targets stay in the crop as at factor 4.
    share: of the whole jitter; a steady tracker is never as wrong as OSTrack's jitter makes it.
    """
    x, y, w, h = box
    reach = share * CENTRE_JITTER * factor / 4 * math.sqrt(w * h)
    cx, cy = x + w / 2 + reach * (rng.random() - 0.5), y + h / 2 + reach * (rng.random() - 0.5)
    w *= math.exp(share * SCALE_JITTER * rng.standard_normal())
    h *= math.exp(share * SCALE_JITTER * rng.standard_normal())
    return cx - w / 2, cy - h / 2, w, h


def augmented(pair: Pair, rng: np.random.Generator) -> Pair:
    """Both crops mirrored together (half of the time), rarely grey, brightness of each changed."""
    template, search, box = pair.template, pair.search, pair.box
    target_box, tokens = pair.target_box, pair.tokens
    if rng.random() < 0.5:
        template, search = template[:, ::-1], search[:, ::-1]
        side = math.isqrt(len(tokens))
        tokens = np.ascontiguousarray(tokens.reshape(side, side)[:, ::-1]).reshape(-1)
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
    return Pair(crops[0], crops[1], target_box, tokens, box, pair.present)


def batches(
    source: PairSource, size: int, seed: int, first: int = 0, step: int = 1
) -> Iterator[tuple[int, list[Pair]]]:
    """Endless (number, pairs): batch `number` depends on the seed and its number alone, so that a run can go
    on anywhere and several workers can share the numbers (`first`, `step`)."""
    number = first
    while True:
        rng = np.random.default_rng((seed, number))
        yield number, [augmented(source.draw(rng), rng) for _ in range(size)]
        number += step


def stack(pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """The pairs' fields as arrays with the sample on the first axis."""
    names = ("template", "search", "target_box", "tokens", "box", "present")
    return {name: np.stack([np.asarray(getattr(pair, name)) for pair in pairs]) for name in names}


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
