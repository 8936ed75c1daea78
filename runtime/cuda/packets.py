"""A stream (RTSP and the like) decoded by NVDEC: FFmpeg fetches its packets, the GPU's decoder takes them."""

import ctypes
from collections.abc import Generator, Iterator
from typing import Any

from jntrt.runtime.cuda.driver import Device, Stream
from jntrt.runtime.cuda.frames import Nv12
from jntrt.runtime.errors import UserError
from jntrt.runtime.video.stream import Frames, Opened, StreamError, sane_rate
from jntrt.runtime.video.videos import ffmpeg_reason, fraction, open_stream, without_password

# FFmpeg's names of what NVDEC decodes: PyNvVideoCodec's, and the filter that gives packets the form it takes.
_CODECS = {
    "h264": ("H264", "h264_mp4toannexb"),
    "hevc": ("HEVC", "hevc_mp4toannexb"),
}
_BT709 = 1  # of FFmpeg's colour spaces; the CPU path takes all others for BT.601 too


def nvdec_stream(codec: Any, address: str, device: Device, max_pixels: int) -> Frames:
    """The frames of a live stream as the GPU decodes them (`Nv12`), each; `codec`: the module PyNvVideoCodec.

    A frame is to be used up before the next one is asked for. Raises UserError where the stream cannot be
    opened or is nothing that NVDEC gives as NV12, StreamError (while iterating) where it breaks midway.
    """
    shown = without_password(address)
    container, video = open_stream(address, shown, True, max_pixels)
    try:
        decoder, stream = _decoder(codec, shown, video, device)
    except BaseException:
        container.close()
        raise
    frames = _frames(codec, shown, container, video, decoder, stream)
    rate = sane_rate(fraction(video.average_rate) or fraction(video.guessed_rate))
    return Frames(shown, Opened(frames, fps=rate, live=True), ahead=0)


def _decoder(codec: Any, shown: str, video: Any, device: Device) -> tuple[Any, Stream]:
    context = video.codec_context
    if context.name not in _CODECS or context.pix_fmt != "yuv420p":
        raise UserError(
            f"{shown}: {context.name} of {context.pix_fmt} is not H.264 or HEVC of 8 bits and limited range,"
            " which --decode gpu takes from a stream: leave it out"
        )
    with device.current():
        stream = Stream(device)
    try:
        return codec.CreateDecoder(
            gpuid=device.info.ordinal,
            codec=getattr(codec.cudaVideoCodec, _CODECS[context.name][0]),
            cudacontext=int(device.context),
            cudastream=stream.handle,
            usedevicememory=True,
            outputColorType=codec.OutputColorType.NATIVE,
            latency=codec.DisplayDecodeLatencyType.LOW,  # else four frames late
        ), stream
    except Exception as error:  # the module's own derive from nothing narrower
        with device.current():
            stream.close()
        raise UserError(f"{shown}: NVDEC cannot decode it: {first_line(error)}") from error


def _frames(
    codec: Any, shown: str, container: Any, video: Any, decoder: Any, stream: Stream
) -> Generator[tuple[int, Any], None, None]:
    import av

    matrix = "bt709" if video.codec_context.colorspace == _BT709 else "bt601"
    number = 0
    try:
        for packet in _packets(codec, container, video):
            try:
                decoded = list(decoder.Decode(packet))
            except Exception as error:
                raise StreamError(f"{shown}: NVDEC stopped: {first_line(error)}") from error
            for surface in decoded:
                yield number, Nv12(surface, matrix)
                number += 1
    except av.error.FFmpegError as error:
        raise StreamError(
            f"{shown}: broken after {number} frames ({ffmpeg_reason(error)}); what came before is kept"
        ) from None
    finally:
        container.close()
        with stream.device.current():
            stream.close()


def _packets(codec: Any, container: Any, video: Any) -> Iterator[Any]:
    """The module's packets, the last of them empty: what the decoder still holds then comes out."""
    from av.bitstream import BitStreamFilterContext

    form = BitStreamFilterContext(_CODECS[video.codec_context.name][1], video)
    for packet in container.demux(video):
        for piece in form.filter(packet if packet.size else None):
            memory = ctypes.create_string_buffer(bytes(piece), piece.size)  # stays until the next one
            yield _packet(codec, ctypes.addressof(memory), piece.size, piece.pts or 0)
    yield _packet(codec, 0, 0, 0)


def _packet(codec: Any, address: int, size: int, pts: int) -> Any:
    packet = codec.PacketData()
    packet.bsl_data, packet.bsl, packet.pts = address, size, pts
    return packet


def first_line(error: BaseException) -> str:
    """The first line of what a library says, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
