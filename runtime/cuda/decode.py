"""A video decoded by the GPU's own decoder (NVDEC): its frames never leave the GPU.

PyNvVideoCodec is used where it is installed (`pip install pynvvideocodec`); nothing of jntrt needs it.
"""

import importlib
import itertools
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

from jntrt.runtime.cuda.driver import Device, Stream
from jntrt.runtime.errors import UserError
from jntrt.runtime.video.stream import Frames, Opened, StreamError

AHEAD = 4  # frames that the decoder's thread may be ahead
MODULE = "PyNvVideoCodec"


def nvdec_frames(source: str, device: Device) -> Frames:
    """The frames of a video file, H×W×3 RGB uint8 on the GPU, as objects with DLPack.

    A frame is to be used up before the next one is asked for: the decoder takes its surface back then.
    Raises UserError where PyNvVideoCodec is missing, does not load, or cannot decode the file, StreamError
    (while iterating) where the video breaks midway.
    """
    try:
        codec = importlib.import_module(MODULE)
    except ImportError as error:
        raise UserError("decoding on the GPU needs PyNvVideoCodec: pip install pynvvideocodec") from error
    except Exception as error:  # its own, without libcuda or libnvidia-encode
        raise UserError(f"PyNvVideoCodec does not load: {_first_line(error)}") from error
    if not Path(source).is_file():
        raise UserError(f"{source}: no such file (the GPU decodes video files; leave --decode out)")
    turned = _rotation(source)
    if turned:
        raise UserError(
            f"{source}: is to be turned by {turned}°, which NVDEC does not do: leave --decode out"
        )
    # Its own: work on the legacy stream, the decoder's default, waits for and is waited for by others'.
    with device.current():
        stream = Stream(device)
    try:
        decoder = codec.ThreadedDecoder(
            source,
            buffer_size=AHEAD,
            gpu_id=device.info.ordinal,
            cuda_context=int(device.context),
            cuda_stream=stream.handle,
            use_device_memory=True,
            output_color_type=codec.OutputColorType.RGB,
        )
        header = decoder.get_stream_metadata()
    except Exception as error:  # the module's own derive from nothing narrower
        _close(stream)
        raise UserError(f"{source}: NVDEC cannot decode it: {_first_line(error)}") from error
    fps = Fraction(header.average_fps).limit_denominator(1001) if header.average_fps > 0 else None
    opened = Opened(_frames(decoder, source, stream), fps, int(header.num_frames) or None)
    return Frames(source, opened, ahead=0)  # the decoder has a thread of its own


def _frames(decoder: Any, source: str, stream: Stream) -> Generator[Any, None, None]:
    try:
        for number in itertools.count():
            try:
                decoded = decoder.get_batch_frames(1)
            except Exception as error:
                raise StreamError(f"{source}: NVDEC stopped: {_first_line(error)}") from error
            if not decoded:
                return
            yield number, decoded[0]
    finally:
        decoder.end()
        _close(stream)


def _close(stream: Stream) -> None:
    with stream.device.current():
        stream.close()


def _rotation(source: str) -> int:
    """Degrees by which a player turns the video, as phones ask for; 0 where FFmpeg cannot tell."""
    import av

    try:
        with av.open(source) as container:
            return int(next(container.decode(video=0)).rotation)
    except (av.error.FFmpegError, StopIteration, IndexError):  # NVDEC says what it thinks of the file
        return 0


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
