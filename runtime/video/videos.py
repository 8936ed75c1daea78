"""Frames of video files and streams, by PyAV.

PyAV rather than OpenCV: it brings its own FFmpeg with H.264 on every platform, says why a file cannot be
read, and tells the rotation that phones write into it. A frame is RGB of 8 bits whatever the video has: more
bits are rounded, transparency is ignored.
"""

import os
import re
from collections.abc import Generator, Iterator
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jntrt.runtime.errors import UserError
from jntrt.runtime.video.damage import Damage
from jntrt.runtime.video.numbering import Holes, Numbering
from jntrt.runtime.video.stream import Frame, Numbered, Opened, StreamError, check_size, sane_rate

if TYPE_CHECKING:
    import av
    import av.container

# Of a Matroska stream, among its tags.
_DURATION = re.compile(r"(\d{1,3}):(\d\d):(\d\d(?:\.\d+)?)")
OPEN_SECONDS, READ_SECONDS = 10.0, 15.0  # how long a stream may stay silent
# FFmpeg "plays" any text file with these demuxers.
_TEXT_FORMATS = {"tty", "bintext", "xbin", "idf", "adf"}
_TS_PACKETS = (188, 192, 204)  # bytes of an MPEG-TS packet, alone, with a time, with a checksum


def video(name: str, *, remote: bool, live: bool, strict: bool, max_pixels: int) -> Opened:
    """The file, or the stream at the address `name`; UserError where it cannot be opened."""

    shown = without_password(name)
    container, stream = open_stream(name, shown, remote, max_pixels)
    rate = sane_rate(fraction(stream.average_rate) or fraction(stream.guessed_rate))
    reader = _Reader(shown, container, stream, live=live, strict=strict, rate=rate, max_pixels=max_pixels)
    return Opened(
        reader.read(), fps=rate, length=_promised(container, stream, rate), live=live, damage=reader.damage
    )


def without_password(name: str) -> str:
    """The name as it is shown: stdin's in words, an address without its password."""
    if name == "-":
        return "stdin"
    return re.sub(r"://[^/@]*@", "://", name)


def open_stream(
    name: str, shown: str, remote: bool, max_pixels: int
) -> "tuple[av.container.InputContainer, av.VideoStream]":
    """A file's or an address's container and its video; errors call it `shown`. Raises UserError."""
    container = _open(name, shown, remote, max_pixels)
    try:
        return container, _video_stream(container, shown, max_pixels)
    except BaseException:
        container.close()
        raise


def _open(name: str, shown: str, remote: bool, max_pixels: int) -> "av.container.InputContainer":
    import av

    options = {"max_pixels": str(max_pixels)}
    if name.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    if not remote:  # a playlist that lies here must not open connections, nor its name be taken for one
        options["protocol_whitelist"] = "pipe" if name == "-" else "file"
    timeout = (OPEN_SECONDS, READ_SECONDS) if remote else None
    address = name if remote else "pipe:0" if name == "-" else f"file:{name}"
    try:
        container: av.container.InputContainer = av.open(
            address, options=options, timeout=timeout, **_lenient_metadata()
        )
    except av.error.FFmpegError as error:
        kind = "cannot be opened" if remote else "not a readable video: truncated, or another kind of file"
        raise UserError(f"{shown}: {kind} ({ffmpeg_reason(error)})") from None
    return container


@cache
def _lenient_metadata() -> dict[str, Any]:
    """Below PyAV 19, open() fails at titles that are no UTF-8 unless told otherwise."""
    import av

    lenient = {"metadata_errors": "replace"}
    try:
        av.open(os.devnull, **lenient)  # type: ignore[call-overload]
    except TypeError:
        return {}
    except (av.error.FFmpegError, OSError):  # no video there
        pass
    return lenient


def _video_stream(container: "av.container.InputContainer", shown: str, max_pixels: int) -> "av.VideoStream":
    if container.format.name in _TEXT_FORMATS:
        raise UserError(f"{shown}: a text file, not a video")
    if not container.streams.video:
        raise UserError(f"{shown}: no video in it")
    stream = container.streams.video[0]
    # A stream without a decoder has no codec context, and PyAV crashes the process where one is then used.
    if stream.codec_context is None:
        raise UserError(f"{shown}: no decoder for its video; convert it to H.264 first")
    width, height = stream.codec_context.width, stream.codec_context.height
    check_size(shown, width, height, max_pixels)
    if width == 0:  # FFmpeg leaves it at 0 where it refused
        _check_jumps(container, shown)
        raise UserError(
            f"{shown}: no frame size in it, or one above {max_pixels} pixels (--max-pixels allows more)"
        )
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = 2  # enough for real time; the other cores belong to the network
    stream.codec_context.options = {"max_pixels": str(max_pixels)}  # a later frame may claim another size
    return stream


def _check_jumps(container: "av.container.InputContainer", shown: str) -> None:
    """Of a video that gives nothing: is it an MP4 in a pipe, whose index comes after its frames?"""
    if shown == "stdin" and "mp4" in container.format.name:
        raise UserError(
            "stdin: an MP4 that cannot be read from a pipe (its index has to come first): give its name"
        )


def _promised(
    container: "av.container.InputContainer", stream: "av.VideoStream", rate: Fraction | None
) -> int | None:
    if stream.frames > 0:
        return int(stream.frames)
    if container.duration and rate:  # Matroska: an estimate, in microseconds
        return round(container.duration * rate / 1_000_000)
    return None


class _Reader:
    """Decodes one video: what cannot be decoded is left out, and told in `damage`."""

    def __init__(
        self,
        name: str,
        container: "av.container.InputContainer",
        stream: "av.VideoStream",
        *,
        live: bool,
        strict: bool,
        rate: Fraction | None,
        max_pixels: int,
    ) -> None:
        self._name, self._container, self._stream = name, container, stream
        self._live, self._strict, self._max_pixels = live, strict, max_pixels
        self.damage = Damage()
        base = fraction(stream.time_base)
        step = 1 / (rate * base) if rate and base else None
        self._holes = Holes(container.format.name, step)
        self._numbering = Numbering(step)
        self._suspect: set[int | None] = set()  # time stamps of packets that the container calls damaged
        self._count = 0
        self._shown: Fraction | int = 0  # seconds that the last packet says its frame lasts

    def read(self) -> Generator[Numbered, None, None]:
        """The frames with their numbers. UserError where there is none, StreamError where they end early."""
        import av

        cut = not self._live and _cut_short(self._container, self._stream)
        promised = 0.0 if self._live else (self._container.duration or 0) / 1e6
        starts = (self._container.start_time or 0) / 1e6
        ends, last = 0.0, -1
        with self._container:
            try:
                for packet in self._packets():
                    for frame in self._decode(packet):
                        number, lost = self._numbering.place(frame.pts)
                        if not self._count:
                            self._report_start()
                        self._report(number, lost, flawed=frame.is_corrupt or frame.pts in self._suspect)
                        self._suspect.discard(frame.pts)
                        image = self._picture(frame)
                        ends, last = (frame.time or 0.0) - starts, number
                        yield number, image
                        self._count += 1
            except av.error.FFmpegError as error:
                raise self._broken(
                    "it ends early: the file is truncated" if cut else ffmpeg_reason(error)
                ) from None
            if cut:
                raise self._broken("it ends early: the file is truncated")
            if self._count == 0:
                raise self._broken("no frames in it")
            if not self._live:
                self._judge_end(last + 1, ends, promised)

    def _packets(self) -> "Iterator[av.Packet[Any]]":
        """The video's packets; what the container knows of damage is noted."""
        for packet in self._container.demux(() if self._holes.needed else self._stream):
            self._holes.follow(packet)
            if packet.stream.index != self._stream.index:  # sound, whose bytes lie between
                continue
            if packet.is_corrupt:
                self._suspect.add(packet.pts)
            if packet.size:  # the last one only ends the decoder
                self._shown = (packet.duration or 0) * (fraction(packet.time_base) or 0)
            hole = self._holes.before(packet)
            if not packet.is_discard:  # an edit list's: decoded, but never shown
                self._numbering.announce(packet.pts, damaged=hole or packet.is_corrupt)
            yield packet

    def _report_start(self) -> None:
        before = self._numbering.before
        if self._live or not before:
            return
        self.damage.remarks.append(f"{before} packets before frame 0 cannot be decoded: its start is missing")
        if self._strict:
            raise self._broken(self.damage.remarks[-1])

    def _decode(self, packet: "av.Packet[Any]") -> "list[av.VideoFrame]":
        import av

        try:
            return packet.decode()
        except av.error.FFmpegError as error:
            if self._live or not self._count:  # a stream's start is often not decodable by itself
                self._numbering.note_damage()
                return []
            if self._strict:
                raise self._broken(ffmpeg_reason(error)) from None
            self._numbering.note_damage()
            return []

    def _report(self, number: int, lost: int, *, flawed: bool) -> None:
        if self._live or not (lost or flawed):
            return
        if self._strict:
            raise self._broken("data are missing or damaged there")
        if lost:
            self.damage.missing.append(range(number - lost, number))
        if flawed:
            self.damage.flawed.append(number)

    def _picture(self, frame: "av.VideoFrame") -> Frame:
        check_size(self._name, frame.width, frame.height, self._max_pixels)
        image: npt.NDArray[Any] = frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90))) if frame.rotation else image

    def _judge_end(self, count: int, ends: float, promised: float) -> None:
        """What the header promised and did not come: certain where it counts frames, else only a hint."""
        size = self._container.size
        if count < self._stream.frames:
            if self._strict:
                raise self._broken(f"its index promises {self._stream.frames} frames")
            self.damage.missing.append(range(count, self._stream.frames))
        elif 0 < ends < 0.9 * promised - 0.5 or self._ends_early(ends):  # sound may also outlast the picture
            self.damage.remarks.append(
                f"its picture ends at {ends:.1f} s of {promised:.1f} s: the file may be truncated"
            )
        elif self._container.format.name == "mpegts" and size > 0 and all(size % n for n in _TS_PACKETS):
            self.damage.remarks.append("it ends within a packet: the file may be truncated")
        if self._strict and self.damage.remarks:
            raise self._broken(self.damage.remarks[-1])

    def _ends_early(self, ends: float) -> bool:
        """Whether frames end before a Matroska file's picture does, which has a duration of its own."""
        if "matroska" not in self._container.format.name or not self._shown:
            return False
        told = _DURATION.match(self._stream.metadata.get("DURATION", ""))
        if told:
            promised = 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3])
        elif len(self._container.streams) == 1:
            promised = (self._container.duration or 0) / 1e6
        else:
            return False
        starts = (self._container.start_time or 0) / 1e6
        return ends + starts < promised - 1.5 * float(self._shown)

    def _broken(self, reason: str) -> UserError:
        if self._count == 0:
            _check_jumps(self._container, self._name)
            return UserError(f"{self._name}: not one frame could be decoded ({reason})")
        return StreamError(
            f"{self._name}: broken after {self._count} frames ({reason}); what came before is kept"
        )


def _cut_short(container: "av.container.InputContainer", stream: "av.VideoStream") -> bool:
    """Whether the index names bytes beyond the file's end, which FFmpeg takes for a regular end."""
    entries: Any = getattr(stream, "index_entries", ())
    size = container.size  # not above zero: a server that does not tell it
    return size > 0 and any(entry.pos + entry.size > size for entry in entries)


def fraction(ratio: Any) -> Fraction | None:
    """PyAV's ratio, a type of its own from 19 on; None where it is not above zero."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio and ratio > 0 else None


def ffmpeg_reason(error: "av.error.FFmpegError") -> str:
    """FFmpeg's words; a timeout, which it calls "Immediate exit requested", in ours."""
    import av

    return "no data came in time" if isinstance(error, av.error.ExitError) else str(error.strerror)
