"""What a tracker does about targets that go and come back: found again, wrongly found, and at what cost.

| measure | rule |
|---|---|
| found | of the returns after an absence: those after which, within 2 s, a box overlaps the target by 0.5 and is not called lost |
| wrong | of the re-detections: those whose box overlaps the target by less than 0.3, or that come while it is away |
| false alarms | of the clips without an absence: those with a wrong re-detection |

Frames are taken as 30 a second where a clip does not say.
"""  # noqa: E501

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.metrics import overlap

SECONDS = 2.0
FPS = 30.0
SAME, OTHER = 0.5, 0.3  # overlaps: the target, and what is none


class Result(Protocol):
    """What `Tracker.update` gives."""

    box: Any
    lost: Any
    redetected: Any


class Redetects(Protocol):
    """A `Tracker` with or without `redetect`."""

    stage_ms: dict[str, float]

    def init(self, frame: NDArray[np.uint8], boxes: Any, /) -> None: ...
    def update(self, frame: NDArray[np.uint8], /) -> Any: ...


@dataclass(frozen=True)
class Returns:
    """What happened in one clip.

    returns, found: how often the target came back, and was found then. redetections, wrong: how often the
    search said it had found something, and had not. ao: mean overlap in visible frames but the first.
    searching, following: milliseconds in the tracker of each frame that is called lost, and of the others.
    """

    name: str
    absences: int
    returns: int
    found: int
    redetections: int
    wrong: int
    ao: float
    searching: tuple[float, ...]
    following: tuple[float, ...]


@dataclass(frozen=True)
class Redetected:
    """All clips together; shares are NaN where there is nothing to count."""

    found: float
    returns: int
    wrong: float
    redetections: int
    false_alarms: float
    staying: int
    ao: float
    searching_ms: float
    following_ms: float


def follow_clip(clip: Clip, tracker: Redetects, on_frame: Callable[[], None] | None = None) -> Returns:
    """Track `clip` from its first box to its end and count."""
    boxes, lost, again, times = [], [], [], []
    for number, frame in enumerate(clip.frames()):
        if number == 0:
            tracker.init(frame, tuple(float(value) for value in clip.boxes[0]))
            continue
        result: Result = tracker.update(frame)
        boxes.append(np.asarray(result.box, np.float64))
        lost.append(bool(result.lost))
        again.append(bool(result.redetected))
        times.append(sum(tracker.stage_ms.values()))
        if on_frame is not None:
            on_frame()
    flags, seen = np.array(lost), clip.visible[1:]
    overlaps = np.zeros(len(flags))
    overlaps[seen] = overlap(np.stack(boxes)[seen], clip.boxes[1:][seen])
    backs = returns(clip.absent[1:])
    reach = round(SECONDS * (clip.fps or FPS))
    held = (overlaps >= SAME) & ~flags
    milliseconds = np.array(times)
    return Returns(
        clip.name,
        absences=int(clip.absent.any()),
        returns=len(backs),
        found=sum(bool(held[back : back + reach].any()) for back in backs),
        redetections=sum(again),
        wrong=int((overlaps[np.array(again)] < OTHER).sum()),
        ao=float(overlaps[seen].mean()) if seen.any() else float("nan"),
        searching=tuple(milliseconds[flags].tolist()),
        following=tuple(milliseconds[~flags].tolist()),
    )


def returns(absent: NDArray[np.bool_]) -> list[int]:
    """The frames in which a target is back."""
    return (np.flatnonzero(absent[:-1] & ~absent[1:]) + 1).tolist()


def redetected(clips: Sequence[Returns]) -> Redetected:
    """The measures over clips."""
    staying = [clip for clip in clips if not clip.absences]
    count, again = sum(clip.returns for clip in clips), sum(clip.redetections for clip in clips)
    return Redetected(
        found=_share(sum(clip.found for clip in clips), count),
        returns=count,
        wrong=_share(sum(clip.wrong for clip in clips), again),
        redetections=again,
        false_alarms=_share(sum(clip.wrong > 0 for clip in staying), len(staying)),
        staying=len(staying),
        ao=float(np.nanmean([clip.ao for clip in clips])),
        searching_ms=_median(value for clip in clips for value in clip.searching),
        following_ms=_median(value for clip in clips for value in clip.following),
    )


def lines(figures: Mapping[str, Redetected]) -> list[str]:
    """A table of at most 80 columns, by bundle, and its legend."""
    table = [f"{'':14}{'found':>12}{'wrong':>12}{'false alarms':>14}{'AO':>8}{'ms lost':>10}{'ms else':>10}"]
    for name, m in figures.items():
        shares = ((m.found, m.returns, 12), (m.wrong, m.redetections, 12), (m.false_alarms, m.staying, 14))
        cells = "".join(f"{f'{share:.2f} of {count}':>{width}}" for share, count, width in shares)
        table.append(f"{name[:13]:14}{cells}{m.ao:>8.3f}{m.searching_ms:>10.1f}{m.following_ms:>10.1f}")
    return [
        *table,
        "found: of the returns, those held within 2 s · wrong: of the re-detections",
        "false alarms: of the clips without an absence · AO: mean over clips",
        "ms: median of a frame in the tracker, while the target is called lost and else",
    ]


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` for JSON: what there is nothing to say of is None."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in values.items()
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.median(found)) if found else float("nan")
