"""Clips of one's own: which of them can be used, which teach, which are held back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from jntrt.bench.sequences.clips import Clip, load_clips
from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError
from jntrt.train.run.commands import trained_on

FEW = 5  # clips, under which each is split in time
SHARE = 5  # every so many-th clip is held back, or the last of so many parts of one
LEAST = 10  # frames of a part of a clip
LOOKED_AT = 300  # images of a folder, before training
NEIGHBOURS = 3  # clips in a row that are held back together, where there are many
JUDGED = 8  # held-back clips from which on some judge that have chosen nothing


@dataclass(frozen=True)
class Material:
    """Parts of the data.

    taught: what the network learns from; choosing: what weights and length are chosen by; judging: what the
    result is measured on, others where there are enough; refused: (clip or folder, why).
    """

    taught: list[Clip]
    choosing: list[Clip]
    judging: list[Clip]
    refused: list[tuple[str, str]]

    @property
    def apart(self) -> bool:
        """Whether the judging clips have chosen nothing."""
        return not {clip.name for clip in self.choosing} & {clip.name for clip in self.judging}

    @property
    def negatives(self) -> bool:
        """Whether pairs without the target can be made: of two clips, or a frame without it."""
        return len(self.taught) > 1 or any(clip.absent.any() for clip in self.taught)


def gather(data: Path, folder: Path) -> Material:
    """The clips at `data`, broken ones left out, in parts. UserError where too little is left.

    Every fifth clip is held back, neighbours together; of fewer than five, the last fifth of each. Frames
    that are needed one by one are written into `folder`.
    """
    clips, refused = usable(data)
    if len(clips) >= FEW:
        taught = trained_on(clips, NEIGHBOURS if len(clips) >= SHARE * NEIGHBOURS else 1)
        names = {clip.name for clip in taught}
        held = [clip for clip in clips if clip.name not in names]
        held = [trimmed for clip in held if (trimmed := from_first_sight(clip)) is not None]
    else:
        parts = [part for clip in clips if (part := split(as_images(clip, folder))) is not None]
        taught, held = [part[0] for part in parts], [part[1] for part in parts]
    if not taught or not held:
        known = "; ".join(f"{name}: {why}" for name, why in refused[:3])
        raise UserError(
            f"--data {data}: nothing to teach and to hold back ({known or 'the clips are too short'});"
            f" it takes one clip of {SHARE * LEAST} frames, or {FEW} clips"
        )
    apart = len(held) >= JUDGED
    return Material(taught, held[::2] if apart else held, held[1::2] if apart else held, refused)


def usable(data: Path) -> tuple[list[Clip], list[tuple[str, str]]]:
    """The clips at `data` that can be read, and (name, why) of the others.

    Annotation and frames are looked at: all of a video, up to 300 images of a folder.
    """
    if not data.exists():
        raise UserError(f"--data {data}: no such file or folder")
    found: list[Clip] = []
    refused: list[tuple[str, str]] = []
    try:
        found = load_clips(data)
    except UserError as error:
        parts = sorted(data.iterdir()) if data.is_dir() else []
        if not parts:
            raise
        for part in parts:
            if part.is_dir() or part.suffix == ".csv":
                _take(lambda part=part: found.extend(load_clips(part)), part.name, refused)  # type: ignore[misc]
        if not found:
            raise error
    kept: list[Clip] = []
    for clip in found:
        _take(lambda clip=clip: kept.append(looked_at(clip)), clip.name, refused)  # type: ignore[misc]
    return kept, refused


def looked_at(clip: Clip) -> Clip:
    """`clip` itself; UserError where fewer than two frames show the target or one cannot be decoded."""
    if clip.visible.sum() < 2:
        raise UserError("its target is visible in fewer than two frames")
    if clip.images:
        for number in np.linspace(0, len(clip) - 1, min(len(clip), LOOKED_AT)).astype(int):
            clip.frame(int(number))
    else:
        for _ in clip.frames():
            pass
    return clip


def from_first_sight(clip: Clip) -> Clip | None:
    """`clip` from the frame that first shows its target; None where that is not to be had of a video."""
    first = int(np.argmax(clip.visible))
    if first == 0:
        return clip
    return _part(clip, first, len(clip)) if clip.images else None


def split(clip: Clip) -> tuple[Clip, Clip] | None:
    """The first four fifths of `clip`, and the last from where its target is seen; None if too short."""
    at = len(clip) - max(LEAST, len(clip) // SHARE)
    seen = np.flatnonzero(clip.visible[max(at, 0) :])
    if at < LEAST or clip.visible[:at].sum() < 2 or len(seen) < 2:
        return None
    return _part(clip, 0, at), _part(clip, at + int(seen[0]), len(clip))


def as_images(clip: Clip, folder: Path) -> Clip:
    """`clip` with a file for each frame; those of a video are written into `folder`."""
    if clip.images:
        return clip
    paths = tuple(folder / clip.name / f"{number:08d}.png" for number in range(len(clip)))
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, frame in zip(paths, clip.frames(), strict=True):
        if not path.exists():
            with replacing(path, "wb") as stream:
                stream.write(cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
    return replace(clip, images=paths)


def shortened(clip: Clip, frames: int) -> Clip:
    """The first `frames` frames of `clip`."""
    return clip if len(clip) <= frames else _part(clip, 0, frames)


def _part(clip: Clip, first: int, end: int) -> Clip:
    return replace(
        clip, boxes=clip.boxes[first:end], visible=clip.visible[first:end], images=clip.images[first:end]
    )


def _take(use: Callable[[], None], name: str, refused: list[tuple[str, str]]) -> None:
    try:
        use()
    except UserError as error:
        refused.append((name, str(error)))
