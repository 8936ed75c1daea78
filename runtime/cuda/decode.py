"""A video decoded by the GPU's own decoder (NVDEC): its frames never leave the GPU.

PyNvVideoCodec is used where it is installed (`pip install pynvvideocodec`); nothing of jntrt needs it.
"""

import importlib
import itertools
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from jntrt.runtime.cuda.driver import Device, Stream
from jntrt.runtime.cuda.frames import device_frame
from jntrt.runtime.cuda.packets import first_line, nvdec_stream
from jntrt.runtime.errors import UserError
from jntrt.runtime.video.sources import is_live
from jntrt.runtime.video.stream import MAX_PIXELS, Frames, Opened, StreamError

AHEAD = 4  # frames that the decoder's thread may be ahead
MODULE = "PyNvVideoCodec"


def nvdec_frames(source: str, device: Device, max_pixels: int = MAX_PIXELS) -> Frames:
    """The frames of a video file or a live stream on the GPU, as a tracker there takes them.

    Those of a file are H×W×3 RGB uint8; a video that a player turns is read turned. A frame is to be used up
    before the next one is asked for: the decoder takes its surface back then. max_pixels: of one frame of a
    stream.
    Raises UserError where PyNvVideoCodec is missing, does not load, or cannot decode the file, StreamError
    (while iterating) where the video breaks midway.
    """
    try:
        codec = importlib.import_module(MODULE)
    except ImportError as error:
        raise UserError("decoding on the GPU needs PyNvVideoCodec: pip install pynvvideocodec") from error
    except Exception as error:  # its own, without libcuda or libnvidia-encode
        raise UserError(f"PyNvVideoCodec does not load: {first_line(error)}") from error
    if is_live(source):
        return nvdec_stream(codec, source, device, max_pixels)
    if not Path(source).is_file():
        raise UserError(f"{source}: no such file (the GPU decodes video files and live streams)")
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
        raise UserError(f"{source}: NVDEC cannot decode it: {first_line(error)}") from error
    fps = Fraction(header.average_fps).limit_denominator(1001) if header.average_fps > 0 else None
    opened = Opened(_frames(decoder, source, stream, _turns(source)), fps, int(header.num_frames) or None)
    return Frames(source, opened, ahead=0)  # the decoder has a thread of its own


def _frames(decoder: Any, source: str, stream: Stream, turns: int) -> Generator[Any, None, None]:
    try:
        for number in itertools.count():
            try:
                decoded = decoder.get_batch_frames(1)
            except Exception as error:
                raise StreamError(f"{source}: NVDEC stopped: {first_line(error)}") from error
            if not decoded:
                return
            yield number, _turned(decoded[0], turns, stream) if turns else decoded[0]
    finally:
        decoder.end()
        _close(stream)


def _close(stream: Stream) -> None:
    with stream.device.current():
        stream.close()


def _turned(decoded: Any, turns: int, stream: Stream) -> Any:
    """The frame as the crop reads it turned, by quarters counterclockwise, once `stream` has it."""
    found = device_frame(decoded, stream.handle, stream.device)
    assert found is not None, "NVDEC's frames lie on the GPU"
    return replace(found, turns=turns, stream=stream.handle)


def _turns(source: str) -> int:
    """Quarters by which the CPU's path turns the video, as phones ask for; 0 where FFmpeg cannot tell."""
    import av

    try:
        with av.open(source) as container:
            return round(next(container.decode(video=0)).rotation / 90) % 4
    except (av.error.FFmpegError, StopIteration, IndexError):  # NVDEC says what it thinks of the file
        return 0
