"""Data that FFmpeg skipped without a word, by where the packets lie in the file."""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

_HEADERS = {"matroska,webm": 256, "mpegts": 6 * 188}  # bytes that may lie between packets: headers, tables


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
