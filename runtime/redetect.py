"""Searching for a target that is gone.

Lost for some frames in a row, the target is looked for in windows of the frame, all of the search crop's
scale at `init`: first around the last sure place, ring by ring, until they have covered the frame, then from
the start again. The networks are the tracker's own: its loop is put at a window and steps, as if it had
believed the target there. What it finds is judged by its likeness to the target's pixels
(runtime/likeness.py). The best of a frame is looked at once more from close by and then followed: it is the
target where for some frames in a row its presence reaches the bundle's threshold, and its likeness one that
was measured for the bundle (calib-jn redetect). While the target is followed, windows elsewhere show what
else the networks would take for it: over the whole frame in the time that is left, and then now and then;
what is nearly as like to that is never taken.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter

from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.bundle.conventions import CropSpec
from jntrt.runtime.errors import UserError
from jntrt.runtime.likeness import Seen, Views
from jntrt.runtime.loops import Image, Loop, Step

STRIDE = 0.5  # of a window's side, from one window to the next: the target then lies well inside of one
DOUBT = 0.7  # of the threshold: what is followed and is less like the target may be something else
HELD = 10  # frames in a row without doubt that end a search: the target came back to where it is followed
LIKER = 0.05  # than what is followed has to be what takes its place
REMEMBER = 8  # frames between two patches of the target that are kept
ASIDE = 3  # frames between two windows elsewhere while the target is followed, once they covered the frame
RATIO = 1.15  # likeness to the target over that to other things, at least
FAINT = 0.5  # of the presence threshold: enough for a look from close by, and for something else
SURE = 3  # frames in a row that something found has to be as like as the threshold
KNOWN = 0.9  # likeness to other things of one that needs no patch of its own


@dataclass(frozen=True)
class Redetection:
    """How a lost target is searched for.

    threshold: likeness from which something found is the target; None: the bundle's.
    after: lost frames in a row until the search begins.
    milliseconds: time for an update with its search; one window is looked at in any case.
    windows: so many of them a frame, whatever time that takes: the same on every machine.
    """

    threshold: float | None = None
    after: int = 5
    milliseconds: float = 33.0
    windows: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"threshold {self.threshold}: a likeness lies between 0 and 1")
        if self.after < 1 or (self.windows is not None and self.windows < 1):
            raise UserError("after how many lost frames to search, and in how many windows: at least 1")
        if not self.milliseconds > 0:
            raise UserError(f"milliseconds {self.milliseconds}: the time for a frame has to be above 0")


class Search:
    """Follows what a loop finds and looks for its target once that is lost."""

    def __init__(self, loop: Loop, bundle: Bundle, options: Redetection) -> None:
        """UserError for a bundle of several targets, or one without a threshold where none is given."""
        if bundle.batch != 1:
            raise UserError(
                f"bundle {bundle.name} tracks {bundle.batch} targets at once: redetect needs batch 1"
            )
        threshold = bundle.redetect_threshold if options.threshold is None else options.threshold
        if threshold is None:
            raise UserError(
                f"bundle {bundle.name} has no threshold for redetection: measure one with calib-jn redetect,"
                " or give one"
            )
        self.threshold = threshold
        self.milliseconds = 0.0  # that the last frame's search took
        self._loop, self._bundle, self.options = loop, bundle, options

    @property
    def searching(self) -> bool:
        """Whether the target has been lost for long enough to be looked for."""
        return self._lost >= self.options.after

    def begin(self, frame: Image, box: geometry.Box) -> None:
        """The target is at `box` of `frame`, from `init`."""
        self._size = box[2], box[3]
        self._frame = frame.shape[0], frame.shape[1]
        self._target, self._others = Views(), Views()
        self._target.add(Seen(frame, box), math.inf)
        self._number = 0
        self._covered = False
        self.trust(box)

    def trust(self, box: geometry.Box) -> None:
        """The target is at `box`."""
        self._sure = box
        self._lost = self._held = self._times = 0
        self._hope: geometry.Box | None = None  # where something found is, that is not sure yet
        self._windows: list[geometry.Box] = []
        self._next = 0

    def follow(self, frame: Image, step: Step) -> tuple[Step, bool]:
        """`step`, which the loop has just found in `frame`, or in its place what the search has found.

        The flag says which. The loop's state is then at the step's box.
        """
        began = perf_counter()
        self._number += 1
        box, score = _found(step)
        seen = Seen(frame, box)
        likeness = self._likeness(seen, score)
        doubtful = score < self._bundle.presence_threshold or likeness < DOUBT * self.threshold
        if likeness >= self.threshold or not (doubtful or self.searching):
            self._lost, self._sure = 0, box
            if self._number % REMEMBER == 0:
                self._target.add(seen, self._number)
        elif not doubtful:
            self._held += 1
            if self._held == HELD:
                self.trust(box)
        else:
            self._held = 0
            self._lost += 1
            if self._lost == self.options.after:
                self._windows = []  # about the last sure place
        left = self.options.milliseconds - (step.crop_ms + step.network_ms + step.box_ms)
        taken = False
        if self.searching:
            best = self._candidate(frame, began, left)
            if best and self._judged(frame, best) >= max(self.threshold, likeness + LIKER):
                self._hope, self._times = _found(best)[0], self._times + 1
                taken = self._times == SURE
            else:
                self._hope, self._times = None, 0
            if best and taken:
                step = best
                self.trust(_found(step)[0])
        elif self._lost == 0 and not self._covered:
            self._look_aside(self._scan(frame, box, began, left), frame, box)
        elif self._lost == 0 and self._number % ASIDE == 0:
            self._look_aside([self._at(frame, self._window(box))], frame, box)
        self._loop.move(step.boxes.tolist())
        self.milliseconds = 1e3 * (perf_counter() - began)
        return step, taken

    def _candidate(self, frame: Image, began: float, milliseconds: float) -> Step | None:
        """What the search has found: followed from the last frame, or new."""
        if self._hope:
            return self._at(frame, self._hope)
        return self._look(self._scan(frame, self._sure, began, milliseconds), frame)

    def _judged(self, frame: Image, step: Step) -> float:
        box, score = _found(step)
        return self._likeness(Seen(frame, box), score)

    def _likeness(self, seen: Seen, score: float) -> float:
        """Likeness to the target; 0 where none seems to be there or it is nearly as like to other things."""
        if score < self._bundle.presence_threshold:
            return 0.0
        own, other = self._target.likeness(seen), self._others.likeness(seen)
        return own if own > RATIO * other else 0.0

    def _look(self, found: Iterable[Step], frame: Image) -> Step | None:
        """What is likest to the target, and to nothing else, of all that was `found`, seen from close by."""
        best: tuple[float, Step] | None = None
        for step in found:
            box, score = _found(step)
            if score >= FAINT * self._bundle.presence_threshold:
                seen = Seen(frame, box)
                likeness = self._target.likeness(seen) - self._others.likeness(seen)
                if best is None or likeness > best[0]:
                    best = likeness, step
        return self._near(frame, best[1]) if best else None

    def _look_aside(self, found: Iterable[Step], frame: Image, box: geometry.Box) -> None:
        """Remembers what else than the target, which is at `box`, the networks take for it."""
        for step in found:
            if _found(step)[1] < FAINT * self._bundle.presence_threshold:
                continue
            other, score = _found(self._near(frame, step))
            if score >= FAINT * self._bundle.presence_threshold and not _touch(other, box):
                seen = Seen(frame, other)
                if self._others.likeness(seen) < KNOWN:
                    self._others.add(seen, self._target.likeness(seen))

    def _scan(self, frame: Image, about: geometry.Box, began: float, milliseconds: float) -> Iterator[Step]:
        """What the next windows show, until the time since `began` is over or they have covered the frame."""
        number = 0
        while True:
            number += 1
            yield self._at(frame, self._window(about))
            if number == self.options.windows or self._next >= len(self._windows):
                return
            spent = 1e3 * (perf_counter() - began)
            # The look from close by takes about as long as a window does.
            if self.options.windows is None and spent * (number + 2) / number > milliseconds:
                return

    def _window(self, box: geometry.Box) -> geometry.Box:
        if self._next >= len(self._windows):
            x, y, w, h = box
            height, width = self._frame
            self._windows = windows((x + w / 2, y + h / 2), self._size, self._bundle.search, width, height)
            self._next = 0
        self._next += 1
        self._covered |= self._next == len(self._windows)
        return self._windows[self._next - 1]

    def _near(self, frame: Image, step: Step) -> Step:
        """What `step` has found, seen from close by."""
        x, y, w, h = _found(step)[0]
        return self._at(frame, (x + (w - self._size[0]) / 2, y + (h - self._size[1]) / 2, *self._size))

    def _at(self, frame: Image, box: geometry.Box) -> Step:
        self._loop.move([box])
        return self._loop.step(frame)


def _touch(a: geometry.Box, b: geometry.Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def windows(
    centre: tuple[float, float],
    size: tuple[float, float],
    spec: CropSpec,
    width: int,
    height: int,
) -> list[geometry.Box]:
    """Boxes of `size` (w, h) whose search crops cover a frame of `width`×`height`, from `centre` outwards.

    They lie on a lattice through `centre`; those of the outermost ring that would lie outside are moved in.
    """
    w, h = size
    stride = STRIDE * geometry.crop_span((0.0, 0.0, w, h), spec)
    places = {
        (x, y): None for y in _places(centre[1], stride, height) for x in _places(centre[0], stride, width)
    }
    near = sorted(places, key=lambda place: math.dist(place, centre))
    return [(x - w / 2, y - h / 2, w, h) for x, y in near]


def _places(centre: float, stride: float, limit: int) -> list[float]:
    """Points in 0 … limit, at most `stride` apart, through `centre`; the ends half of it from them."""
    centre = min(max(centre, 0.0), float(limit))
    before = max(0, math.ceil((centre - stride / 2) / stride))
    after = max(0, math.ceil((limit - centre - stride / 2) / stride))
    points = [centre + number * stride for number in range(-before, after + 1)]
    return [min(max(point, 0.0), float(limit)) for point in points]


def _found(step: Step) -> tuple[geometry.Box, float]:
    x, y, w, h = step.boxes[0].tolist()
    return (x, y, w, h), float(step.scores[0])
