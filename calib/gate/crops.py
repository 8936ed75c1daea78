"""Calibration crops: what the networks see while the fp32 tracker follows the user's own targets.

The tracker runs on a stretch of every sequence; crops are taken around its own last state, moved and scaled
a little more at random, so that activations of an off-centre target are seen too. The seed is fixed: the same
data give the same crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jntrt.bench.sequences.clips import Clip
from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.crop import BLACK, border_colour
from jntrt.runtime.errors import UserError
from jntrt.runtime.inputs import crops as cut
from jntrt.runtime.inputs import target_inputs
from jntrt.runtime.tracker import Tracker
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MIN_CROPS = 32  # fewer say nothing about a tail
CENTRE_JITTER = 0.5  # largest shift of the centre, in mean sides √(w·h)
SCALE_JITTER = 0.2  # standard deviation of ln(scale)
FRAMES_PER_CROP = 4  # that the tracker follows: neighbouring frames show nearly the same
LOST = 0.1  # overlap with the annotation below which the tracker is put back on the target
BLANK = 1.0  # grey levels between the 2nd and the 98th percentile: a crop below shows nothing
MAX_BLANK = 0.25  # share of such crops: some may show the sky beside the target


@dataclass(frozen=True, eq=False)
class Sample:
    """One call of the track graph.

    template: index into `CropSet.templates`; search: Sx×Sx×3 uint8 RGB.
    """

    sequence: str
    frame: int
    template: int
    search: Image


@dataclass(frozen=True, eq=False)
class TemplateFeed:
    """Inputs of the template graph for one target; `weights` for track graphs with `template_weights`."""

    template: Image
    target_box: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CropSet:
    """Samples and the templates that they belong to."""

    templates: list[TemplateFeed] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)


def collect_crops(
    bundle: Bundle,
    sequences: Sequence[Clip],
    count: int = 500,
    *,
    seed: int = 0,
    backend: str = "onnxruntime",
    threads: int | None = None,
    on_crop: Callable[[], None] | None = None,
) -> CropSet:
    """About `count` crops (fewer where the data have fewer frames), spread evenly over the sequences.

    Raises UserError for a bundle of batch above 1, and as `check_crops` does.
    """
    if bundle.batch != 1:
        raise UserError(
            f"bundle {bundle.name} tracks {bundle.batch} targets at once: calibrate the bundle of batch 1"
        )
    crops = CropSet()
    shares = share_out(count, [max(0, len(sequence) - 1) for sequence in sequences])
    rng = np.random.default_rng(seed)
    with Tracker.from_bundle(bundle, backend, "fp32", threads) as tracker:
        for sequence, share in zip(sequences, shares, strict=True):
            if share:
                _follow(bundle, tracker, sequence, share, rng, crops, on_crop)
    check_crops(crops, count)
    return crops


def check_crops(crops: CropSet, wanted: int) -> None:
    """UserError when there are too few crops, or when they show nothing, before anything is measured."""
    needed = min(wanted, MIN_CROPS)
    if len(crops) < needed:
        raise UserError(
            f"the data give {len(crops)} calibration crops and at least {needed} are needed: "
            "add sequences with --data"
        )
    blank = sum(_contrast(sample.search) < BLANK for sample in crops.samples)
    if blank > MAX_BLANK * len(crops):
        raise UserError(
            f"{blank} of {len(crops)} calibration crops are blank (one colour): "
            "the video or its boxes are wrong"
        )


def _contrast(image: Image) -> float:
    """Spread of a crop's grey levels inside the frame; outside it is black, with a soft edge of one pixel."""
    inside = image[image.any(axis=2)]
    if not len(inside):
        return 0.0
    low, high = np.percentile(inside, (2, 98), axis=0)
    return float((high - low).max())


def share_out(count: int, frames: Sequence[int]) -> list[int]:
    """How many of `count` crops each sequence gives: as even as their numbers of frames allow."""
    shares = [0] * len(frames)
    left = min(count, sum(frames))
    while left:
        open_ones = [i for i, n in enumerate(frames) if shares[i] < n]
        step = max(1, left // len(open_ones))
        for i in open_ones:
            more = min(step, frames[i] - shares[i], left)
            shares[i] += more
            left -= more
    return shares


def spread(crops: CropSet, count: int) -> CropSet:
    """`count` of the crops (all of them where there are fewer), evenly chosen."""
    chosen = np.linspace(0, len(crops) - 1, min(count, len(crops))).round().astype(int)
    return CropSet(crops.templates, [crops.samples[i] for i in chosen])


def jitter(box: Sequence[float], rng: np.random.Generator) -> geometry.Box:
    """`box` (x, y, w, h) shifted and scaled at random, within what a tracker's last state is off by."""
    x, y, w, h = (float(value) for value in box)
    side = float(np.sqrt(w * h))
    dx, dy = rng.uniform(-CENTRE_JITTER, CENTRE_JITTER, 2) * side
    scale = float(np.exp(rng.normal(0.0, SCALE_JITTER)))
    width, height = w * scale, h * scale
    return (x + w / 2 + dx - width / 2, y + h / 2 + dy - height / 2, width, height)


def _follow(
    bundle: Bundle,
    tracker: Tracker,
    sequence: Clip,
    share: int,
    rng: np.random.Generator,
    crops: CropSet,
    on_crop: Callable[[], None] | None,
) -> None:
    """Adds `share` samples of one sequence, evenly over a stretch of it that begins at random."""
    stretch = min(len(sequence) - 1, share * FRAMES_PER_CROP)
    start = int(rng.integers(0, len(sequence) - stretch))
    chosen = set(np.linspace(start + 1, start + stretch, share).round().astype(int).tolist())
    started, border = False, BLACK
    for number, frame in enumerate(sequence.frames()):
        if number < start:
            continue
        truth = sequence.boxes[number]
        usable = bool(sequence.visible[number]) and bool(np.isfinite(truth).all())
        if not started:
            if usable:
                tracker.init(frame, truth)
                crops.templates.append(_template(bundle, frame, truth.tolist()))
                border = border_colour(frame, bundle.search)
                started = True
            continue
        if number in chosen:
            around = jitter(tracker.state.tolist(), rng)
            search = cut(frame, [around], bundle.search, border=border)[0]
            crops.samples.append(Sample(sequence.name, number, len(crops.templates) - 1, search))
            if on_crop is not None:
                on_crop()
        if number == start + stretch:
            break
        state = tracker.update(frame).box
        if usable and box_overlap(state.tolist(), truth.tolist()) < LOST:
            tracker.state = truth


def _template(bundle: Bundle, frame: Image, box: list[float]) -> TemplateFeed:
    box_format = str(bundle.recipe.get("target_box_format", "cxcywh"))
    wanted = ("target_box", "template_weights")
    start = geometry.start_box(box, bundle.state)
    inputs = target_inputs(frame, [start], bundle.template, box_format, wanted)
    return TemplateFeed(*(inputs[name][0] for name in ("template", *wanted)))


def box_overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x, y, w, h."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    union = a[2] * a[3] + b[2] * b[3] - common
    return common / union if union > 0 else 0.0
