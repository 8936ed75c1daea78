"""Training pairs from annotated sequences: two frames at most 200 apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jntrt.bench.sequences.clips import Clip
from jntrt.runtime.bundle.conventions import CropSpec
from jntrt.runtime.crop import BLACK, Colour, border_colour, crop
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import Box, CropRectangle, exact_side
from jntrt.train.data.scene import Image

MAX_GAP = 200  # frames between template and search (OSTrack)
REACH = 2.7  # a kept piece of a video's frame is this many search crops wide: jitter moves and enlarges them


@dataclass(frozen=True, eq=False)
class Still:
    """A frame, or the piece of it around the target. corner: the piece's place in the frame; box: x, y, w, h
    in the frame, None where the target is absent; size: the frame's width and height; border: the colour that
    crops show outside the frame."""

    image: Image
    corner: tuple[int, int]
    box: Box | None
    size: tuple[int, int]
    border: Colour = BLACK

    def render(self, rectangle: CropRectangle, size: int) -> Image:
        """`rectangle` of the frame as size×size×3."""
        x, y = self.corner
        piece = CropRectangle(rectangle.x - x, rectangle.y - y, rectangle.side)
        return crop(self.image, piece, size, border=self.border)


class ClipFrames:
    """The frames of one sequence by number: read from image files at need, or kept in memory for a video.

    A video cannot be entered at any frame cheaply, so every `stride`-th frame is kept, cut to the target's
    surroundings.
    """

    def __init__(self, sequence: Clip, search: CropSpec, stride: int = 2) -> None:
        self._sequence, self._search = sequence, search
        self._kept: dict[int, Still] = {}
        if sequence.images:
            self._numbers = np.arange(len(sequence))
            return
        for number, frame in enumerate(sequence.frames()):
            if number % stride == 0:
                self._kept[number] = _cut(frame, _box(sequence, number), search)
        self._numbers = np.array(sorted(self._kept))

    def still(self, number: int) -> Still:
        """Frame `number` of the sequence."""
        if number in self._kept:
            return self._kept[number]
        frame = self._sequence.frame(number)
        size, border = (frame.shape[1], frame.shape[0]), border_colour(frame, self._search)
        return Still(frame, (0, 0), _box(self._sequence, number), size, border)

    def numbers(self, present: bool) -> np.ndarray:
        """ClipFrames in which the target is visible, or those in which it is annotated as absent."""
        flags = self._sequence.visible if present else self._sequence.absent
        return self._numbers[flags[self._numbers]]


class VideoPairs:
    """Draws pairs of frames from annotated sequences; `search`: how the search crop is cut."""

    def __init__(self, sequences: Sequence[Clip], search: CropSpec, stride: int = 2) -> None:
        frames = [ClipFrames(sequence, search, stride) for sequence in sequences]
        self._frames = [f for f in frames if len(f.numbers(True)) > 1]
        if not self._frames:
            raise UserError("no sequence has two frames in which its target is visible: nothing to train on")

    def draw(self, rng: np.random.Generator, absent: bool) -> tuple[Still, Still]:
        """Template and search frame of one sequence; with `absent`, a search frame without this target.

        That frame is one with an absence label where the sequence has any, else one of another sequence,
        whose `box` is then None.
        """
        index, count = int(rng.integers(len(self._frames))), len(self._frames)
        frames = self._frames[index]
        seen = frames.numbers(True)
        first = int(rng.choice(seen))
        if not absent:
            near = seen[np.abs(seen - first) <= MAX_GAP]
            return frames.still(first), frames.still(int(rng.choice(near)))
        gone = frames.numbers(False)
        if len(gone):
            return frames.still(first), frames.still(int(rng.choice(gone)))
        if count == 1:
            raise UserError("negative pairs need a second sequence, or frames with an absence label")
        other = self._frames[(index + int(rng.integers(1, count))) % count]
        return frames.still(first), other.still(int(rng.choice(other.numbers(True))))


def _box(sequence: Clip, number: int) -> Box | None:
    if not sequence.visible[number]:
        return None
    x, y, w, h = (float(v) for v in sequence.boxes[number])
    return x, y, w, h


def _cut(frame: Image, box: Box | None, search: CropSpec) -> Still:
    """The square of `REACH` search crops around the target's centre, or the whole frame without a target."""
    height, width = frame.shape[:2]
    border = border_colour(frame, search)
    if box is None:
        return Still(frame, (0, 0), None, (width, height), border)
    x, y, w, h = box
    half = REACH / 2 * exact_side(box, search)
    left, top = max(0, int(x + w / 2 - half)), max(0, int(y + h / 2 - half))
    piece = frame[top : int(y + h / 2 + half) + 1, left : int(x + w / 2 + half) + 1]
    return Still(np.ascontiguousarray(piece), (left, top), box, (width, height), border)
