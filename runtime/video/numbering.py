"""Which frame of the source a decoded frame is, where some could not be decoded or were skipped."""

from bisect import insort
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

_REACH = 64  # packets after damage within which missing frames are put down to it
_LONGEST = 1000  # frames; a longer gap is a damaged time stamp, or a stream that was joined
_WAITING = 1024  # time stamps that are remembered: streams without sound ones never match
_HEADERS = {"matroska,webm": 256, "mpegts": 6 * 188}  # bytes that may lie between packets: headers, tables


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


class Holes:
    """Follows the packets of all streams; `before` tells whether data are missing in front of a video packet.

    Matroska lies there without holes. A transport stream has them (other programs, filling), so that one
    counts only where the video's time stamps leave room for a frame too. Other containers have an index, or
    packets of which nothing is known: none counts. `step`: a frame's duration in units of the time stamps.
    """

    def __init__(self, container: str, step: Fraction | None) -> None:
        self._slack = _HEADERS.get(container)
        self._transport, self._step = container == "mpegts", step
        self._end: int | None = None
        self._time: int | None = None
        self._hole = False

    @property
    def needed(self) -> bool:
        """Whether the packets of all streams have to be shown to `follow`."""
        return self._slack is not None

    def follow(self, packet: "av.Packet[Any]") -> None:
        """The next packet of any stream."""
        if self._slack is None or packet.pos is None:
            return
        self._hole |= self._end is not None and packet.pos - self._end > self._slack
        size = -(-packet.size // 184) * 188 if self._transport else packet.size
        self._end = packet.pos + size

    def before(self, packet: "av.Packet[Any]") -> bool:
        """Whether data are missing between the video packet before this one and it; `follow` comes first."""
        hole, self._hole = self._hole, False
        time, self._time = self._time, packet.dts
        if not self._transport:
            return hole
        if time is None or packet.dts is None or self._step is None:
            return False
        return hole and packet.dts - time > 1.5 * self._step
