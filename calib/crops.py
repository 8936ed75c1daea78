"""Calibration crops: what the networks see while the fp32 tracker follows the user's own targets.

The tracker runs on a stretch of every sequence; crops are taken around its own last state, moved and scaled
a little more at random, so that activations of an off-centre target are seen too. The seed is fixed: the same
data give the same crops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.metrics import overlap
from jntrt.bench.sequences.workers.jobs import Job, Work, run_jobs
from jntrt.bench.sequences.workers.options import Team
from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.crop import BLACK, Colour, border_colour
from jntrt.runtime.errors import UserError
from jntrt.runtime.inputs import crops as cut
from jntrt.runtime.inputs import state_inputs, target_inputs
from jntrt.runtime.tracker import Tracker

Image = NDArray[np.uint8]

MIN_CROPS = 32  # fewer say nothing about a tail
CENTRE_JITTER = 0.5  # largest shift of the centre, in mean sides √(w·h)
SCALE_JITTER = 0.2  # standard deviation of ln(scale)
FRAMES_PER_CROP = 4  # that the tracker follows: neighbouring frames show nearly the same
LOST = 0.1  # overlap with the annotation below which the tracker is put back on the target
BLANK = 1.0  # grey levels between the 2nd and the 98th percentile: a crop below shows nothing
MAX_BLANK = 0.25  # share of such crops: some may show the sky beside the target


@dataclass(frozen=True)
class Wanted:
    """How many crops, and the options that say so: for errors."""

    count: int
    count_option: str = "--crops"
    data_option: str = "--data"


@dataclass(frozen=True, eq=False)
class Sample:
    """One call of the track graph.

    template: index into `CropSet.templates`; inputs: what the call has of its own, by input, without the
    batch's axis: `search` Sx×Sx×3 uint8 RGB and the state inputs.
    """

    sequence: str
    frame: int
    template: int
    inputs: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Target:
    """What a target adds to both graphs' inputs, by input, without the batch's axis.

    template: all inputs of the template graph; track: the side inputs of every call of the track graph.
    """

    template: dict[str, NDArray[Any]]
    track: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class CropSet:
    """Samples and the templates that they belong to."""

    templates: list[Target] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)


def collect_crops(
    bundle: Bundle,
    sequences: Sequence[Clip],
    wanted: Wanted,
    *,
    seed: int = 0,
    backend: str = "onnxruntime",
    threads: int | None = None,
    on_crop: Callable[[], None] | None = None,
    team: Team | None = None,
) -> CropSet:
    """About as many crops as are wanted (or as the data have frames), spread evenly over the sequences.

    team: who follows the sequences, None for this process; the crops are the same. Raises
    UserError for a bundle of batch above 1, and as `check_crops` does.
    """
    if bundle.batch != 1:
        raise UserError(
            f"bundle {bundle.name} tracks {bundle.batch} targets at once: calibrate the bundle of batch 1"
        )
    crops = CropSet()
    shares = share_out(wanted.count, [_frames_to_follow(sequence) for sequence in sequences])
    rng = np.random.default_rng(seed)
    # All chance is drawn here, in order, so that it does not matter who follows which sequence.
    stretches = [
        _stretch(sequence, share, rng) for sequence, share in zip(sequences, shares, strict=True) if share
    ]
    opened = partial(Tracker.from_bundle, bundle, backend, "fp32", threads)
    for part in _followed(opened, stretches, on_crop, team):
        base = len(crops.templates)
        crops.templates.extend(part.templates)
        crops.samples.extend(replace(sample, template=base + sample.template) for sample in part.samples)
    check_crops(crops, wanted)
    return crops


def check_crops(crops: CropSet, wanted: Wanted) -> None:
    """UserError when there are too few crops, or when they show nothing, before anything is measured."""
    missing = min(wanted.count, MIN_CROPS) - len(crops)
    if missing > 0:
        raise UserError(
            f"{wanted.data_option}: {len(crops)} crops, one for each frame after a target is first seen, are "
            f"too few: add {missing} frames or more, or ask for less with {wanted.count_option}"
        )
    blank = sum(_contrast(sample.inputs["search"]) < BLANK for sample in crops.samples)
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


@dataclass(frozen=True)
class Jitter:
    """How far a crop is off: its centre in mean sides √(w·h), and ln(scale) of its sides."""

    x: float
    y: float
    log_scale: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Jitter:
        """At random, within what a tracker's last state is off by."""
        x, y = rng.uniform(-CENTRE_JITTER, CENTRE_JITTER, 2)
        return cls(float(x), float(y), float(rng.normal(0.0, SCALE_JITTER)))

    def of(self, box: Sequence[float]) -> geometry.Box:
        """`box` (x, y, w, h) shifted and scaled."""
        x, y, w, h = (float(value) for value in box)
        side = float(np.sqrt(w * h))
        scale = float(np.exp(self.log_scale))
        width, height = w * scale, h * scale
        return (x + w / 2 + self.x * side - width / 2, y + h / 2 + self.y * side - height / 2, width, height)


@dataclass(frozen=True, eq=False)
class Stretch:
    """What is followed of a sequence, from frame `start`, which shows the target, and the crops there.

    jitters: by frame, one for each crop.
    """

    sequence: Clip
    start: int
    end: int
    jitters: dict[int, Jitter]


def _frames_to_follow(sequence: Clip) -> int:
    """Frames after the first that shows the target."""
    first = next((number for number in range(len(sequence)) if _usable(sequence, number)), len(sequence))
    return max(0, len(sequence) - 1 - first)


def _stretch(sequence: Clip, share: int, rng: np.random.Generator) -> Stretch:
    """For `share` samples of one sequence, evenly over a stretch of it that begins at random.

    It begins where the target is seen, so that every sample has a tracker on the target before it.
    """
    length = min(_frames_to_follow(sequence), share * FRAMES_PER_CROP)
    starts = [number for number in range(len(sequence) - length) if _usable(sequence, number)]
    start = starts[int(rng.integers(0, len(starts)))]
    end = start + length
    chosen = np.linspace(start + 1, end, share).round().astype(int).tolist()
    return Stretch(sequence, start, end, {number: Jitter.drawn(rng) for number in chosen})


def _usable(sequence: Clip, number: int) -> bool:
    return bool(sequence.visible[number]) and bool(np.isfinite(sequence.boxes[number]).all())


def _followed(
    opened: Callable[[], AbstractContextManager[Tracker]],
    stretches: Sequence[Stretch],
    on_crop: Callable[[], None] | None,
    team: Team | None,
) -> Iterator[CropSet]:
    """The crops of every stretch, in their order."""
    if team is None:
        with opened() as tracker:
            for stretch in stretches:
                yield _follow(tracker, stretch, on_crop)
        return
    jobs = [
        Job(stretch.sequence.name, stretch.end, replace(stretch, sequence=stretch.sequence.absolute()))
        for stretch in stretches
    ]
    found: dict[str, CropSet] = {}
    with team.crew(Work(opened, _follow)) as crew:
        for name, part in run_jobs(crew, jobs):
            found[name] = part
            if on_crop is not None:
                for _ in range(len(part)):
                    on_crop()
    for job in jobs:
        yield found[job.name]


def _follow(tracker: Tracker, stretch: Stretch, on_crop: Callable[[], None] | None = None) -> CropSet:
    """One sequence's template and samples, as its tracker sees them."""
    bundle, sequence, crops = tracker.bundle, stretch.sequence, CropSet()
    border = BLACK
    for number, frame in enumerate(sequence.frames()):
        if number < stretch.start:
            continue
        truth = sequence.boxes[number]
        if number == stretch.start:
            tracker.init(frame, truth)
            crops.templates.append(_target(bundle, frame, truth.tolist()))
            border = border_colour(frame, bundle.search)
            continue
        if number in stretch.jitters:
            around = stretch.jitters[number].of(tracker.state.tolist())
            inputs = _track_inputs(bundle, frame, around, border)
            crops.samples.append(Sample(sequence.name, number, len(crops.templates) - 1, inputs))
            if on_crop is not None:
                on_crop()
        if number == stretch.end:
            break
        state = tracker.update(frame).box
        if _usable(sequence, number) and overlap(state[None], truth[None])[0] < LOST:
            tracker.state = truth
    return crops


def _target(bundle: Bundle, frame: Image, box: list[float]) -> Target:
    """The inputs that `init` computes from the frame and the box."""
    start = geometry.start_box(box, bundle.state)
    names = [name for _, name in bundle.tensors("inputs")]
    inputs = target_inputs(frame, [start], bundle.template, bundle.target_box_format, names)
    of_template = {n: value[0] for n, value in inputs.items() if bundle.takes("template", n)}
    of_track = {n: value[0] for n, value in inputs.items() if bundle.takes("track", n)}
    return Target(of_template, of_track)


def _track_inputs(
    bundle: Bundle, frame: Image, state: geometry.Box, border: Colour
) -> dict[str, NDArray[Any]]:
    """The inputs that `update` computes from the frame and the state."""
    search = cut(frame, [state], bundle.search, border=border)
    told = state_inputs(bundle.state_inputs, [state], bundle.search)
    return {"search": search[0], **{name: value[0] for name, value in told.items()}}
