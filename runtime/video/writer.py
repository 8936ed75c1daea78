"""Annotated video: frames become H.264 in a thread of their own, the file takes its name when it is whole."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from queue import Queue
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from jntrt.runtime.command.files import Replacement
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    import av
    import av.container

Frame = npt.NDArray[np.uint8]
# Draws on a frame that has been scaled by the factor given; returns the picture to write.
Draw = Callable[[Frame, float], Frame]
Timed = Callable[[str, float], None]

DEFAULT_FPS = Fraction(30)
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# x264's, from quick and large to slow and small.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class Encoding:
    """How a video is written. Raises UserError for what this FFmpeg does not have.

    encoder: FFmpeg's name of an H.264 or HEVC encoder: libx264 on the CPU, h264_nvenc, h264_qsv,
        h264_videotoolbox … where the hardware is there.
    preset: of libx264; other encoders keep their own default.
    height: rows of the picture, None: the source's.
    """

    encoder: str = "libx264"
    preset: str = "ultrafast"
    height: int | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise UserError(f"--save-preset {self.preset}: say one of {', '.join(PRESETS)}")
        if self.height is not None and not 16 <= self.height <= 8192:
            raise UserError(f"--save-height {self.height}: has to be 16 to 8192 pixels")
        if self.encoder != "libx264" and self.encoder not in encoders():
            raise UserError(
                f"--save-encoder {self.encoder}: not in this FFmpeg, which has {', '.join(encoders())}"
            )

    def options(self) -> dict[str, str]:
        """FFmpeg's options of the encoder."""
        if self.encoder == "libx265":
            return {"x265-params": "log-level=error"}  # twenty lines on stderr otherwise
        if self.encoder != "libx264":
            return {}
        return {
            "crf": "23" if self.preset == "ultrafast" else "20",  # whose bits are twice as many
            "preset": self.preset,
        }


def encoders() -> list[str]:
    """The H.264 and HEVC encoders of this FFmpeg; one on hardware may still find none."""
    import av

    found = []
    for name in sorted(av.codecs_available):
        try:
            codec = av.Codec(name, "w")
        except ValueError:  # a decoder only
            continue
        if codec.name == name and codec.canonical_name in ("h264", "hevc"):
            found.append(name)
    return found


class VideoWriter:
    """Writes RGB frames as video that browsers play (H.264, 4:2:0, index in front), in its own thread.

    The size is that of the first frame, or has `encoding.height` rows and the first frame's shape; an odd
    width or height, which 4:2:0 cannot hold, gains one repeated row or column. Leaving the context finishes
    the file, after an error too: what was written can be watched.

    timed: told in that thread, of each frame, the milliseconds of its `draw` and its `encode`.
    """

    def __init__(
        self,
        path: Path,
        fps: Fraction | None,
        encoding: Encoding | None = None,
        *,
        overwrite: bool = True,
        timed: Timed | None = None,
    ) -> None:
        self._timed = timed
        self.path, self._fps, self._encoding = path, fps or DEFAULT_FPS, encoding or Encoding()
        self._file = Replacement(path, overwrite=overwrite)
        self._queue: Queue[tuple[Frame, Draw | None] | None] = Queue(4)
        self._error: BaseException | None = None
        self._frames = 0
        self._size = (0, 0)  # height and width of the frames that come in
        self._thread = Thread(target=self._work, name="encode", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, draw: Draw | None = None) -> None:
        """Append a frame (H×W×3 uint8 RGB), not to be changed afterwards; `draw` works on it later."""
        if self._error is not None:
            raise self._failed()
        self._queue.put((frame, draw))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is None and self._frames:
            self._file.commit()
            return
        self._file.discard()
        if self._error is not None and kind is None:  # an error that is on its way already says more
            raise self._failed()

    def _failed(self) -> UserError:
        reason = getattr(self._error, "strerror", None) or str(self._error)
        hardware = "" if self._encoding.encoder == "libx264" else f" by {self._encoding.encoder}"
        return UserError(f"{self.path}: the video cannot be written{hardware} ({reason})")

    def _work(self) -> None:
        container: av.container.OutputContainer | None = None
        stream: Any = None
        try:
            while (item := self._queue.get()) is not None:
                if self._error is not None:
                    continue  # empty the queue, so that nobody waits for room in it
                try:
                    began = perf_counter()
                    picture = self._picture(*item)
                    drawn = perf_counter()
                    if container is None:
                        container, stream = self._open(picture)
                    self._encode(container, stream, picture)
                    self._frames += 1
                    if self._timed is not None:
                        self._timed("draw", 1e3 * (drawn - began))
                        self._timed("encode", 1e3 * (perf_counter() - drawn))
                except BaseException as error:  # raised in the thread that writes
                    self._error = error
            if container is not None and self._error is None:
                container.mux(self._last_packets(stream))
        except BaseException as error:  # the last packets did not fit on the disk
            self._error = error
        finally:
            if container is not None:
                try:
                    container.close()
                except BaseException as error:  # nor did the index
                    self._error = self._error or error

    def _picture(self, frame: Frame, draw: Draw | None) -> Frame:
        """The frame scaled, drawn on, and with even sides."""
        import cv2

        height, width = frame.shape[:2]
        if not self._frames:
            self._size = height, width
        if (height, width) != self._size:
            raise UserError(f"a frame of {width}×{height} after frames of {self._size[1]}×{self._size[0]}")
        scale = 1.0
        if self._encoding.height not in (None, height):
            scale = float(self._encoding.height or height) / height
            size = (max(2, round(width * scale)), round(height * scale))
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            frame = cv2.resize(frame, size, interpolation=how)  # type: ignore[assignment]
        if draw is not None:
            frame = draw(frame, scale)
        odd_rows, odd_columns = frame.shape[0] % 2, frame.shape[1] % 2
        if odd_rows or odd_columns:
            frame = np.pad(frame, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        return np.ascontiguousarray(frame)

    def _open(self, picture: Frame) -> tuple["av.container.OutputContainer", Any]:
        import av

        kind = CONTAINERS[self.path.suffix.lower()]
        options = {"movflags": "faststart"} if kind in ("mp4", "mov") else {}
        container = av.open(f"file:{self._file.part}", "w", format=kind, options=options)
        stream: Any = container.add_stream(self._encoding.encoder, rate=self._fps)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = _pixel_format(self._encoding.encoder)
        stream.options = self._encoding.options()
        stream.codec_context.thread_count = 2  # the other cores belong to the network
        return container, stream

    def _encode(self, container: "av.container.OutputContainer", stream: Any, picture: Frame) -> None:
        import av
        import cv2

        # OpenCV's conversion takes less than half the time of FFmpeg's.
        planes = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))  # type: ignore[arg-type]

    def _last_packets(self, stream: Any) -> list["av.Packet[Any]"]:
        packets: list[av.Packet[Any]] = stream.encode(None)
        if self._frames < 3:  # too few for a frame out of order; x265 leaves their dts uninitialised
            for packet in packets:
                packet.dts = packet.pts
        return packets


def _pixel_format(encoder: str) -> str:
    """8-bit 4:2:0 as this encoder takes it: in planes, or half interleaved as some hardware wants it."""
    import av

    names = [taken.name for taken in av.Codec(encoder, "w").video_formats or []]
    return "nv12" if "nv12" in names and "yuv420p" not in names else "yuv420p"
