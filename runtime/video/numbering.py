"""Which frame of the source a decoded frame is, where some could not be decoded."""

from bisect import insort
from fractions import Fraction

_REACH = 64  # packets after damage within which missing frames are put down to it
_LONGEST = 1000  # frames; a longer gap is a damaged time stamp, or a stream that was joined
_WAITING = 1024  # time stamps that are remembered: streams without sound ones never match


class Numbering:
    """Counts frames by the packets that they come from, and by their time stamps where packets are lost.

    `step`: a frame's duration in units of the time stamps, None where unknown. Only near damage is anything
    missing at all: elsewhere a long gap is a camera that paused, and a packet without a frame a second field.
    """

    def __init__(self, step: Fraction | None) -> None:
        self._step = step
        self._waiting: list[int] = []  # time stamps of packets whose frames are still to come, sorted
        self._last: int | None = None
        self._number = -1
        self.before = 0  # packets before the first frame, of which nothing came: frames that have no number
        self._damage_reach = 0

    def announce(self, pts: int | None, *, damaged: bool) -> None:
        """A packet with that time stamp goes to the decoder."""
        self._damage_reach = _REACH if damaged else max(0, self._damage_reach - 1)
        if pts is not None:
            insort(self._waiting, pts)
            del self._waiting[:-_WAITING]

    def note_damage(self) -> None:
        """The decoder refused a packet."""
        self._damage_reach = _REACH

    def place(self, pts: int | None) -> tuple[int, int]:
        """The number of the frame with that time stamp, and how many before it are missing."""
        lost = 0
        if pts is not None:
            undecoded = sum(1 for waiting in self._waiting if waiting < pts)
            del self._waiting[: undecoded + (pts in self._waiting[undecoded : undecoded + 1])]
            if self._last is None:
                self.before = undecoded
            elif self._damage_reach:
                lost = max(undecoded, self._skipped(pts - self._last))
            self._last = pts
        self._number += 1 + lost
        return self._number, lost

    def _skipped(self, gap: int) -> int:
        """Frames that fit between two time stamps."""
        if self._step is None:
            return 0
        frames = round(gap / self._step) - 1
        return frames if 0 < frames <= _LONGEST else 0
