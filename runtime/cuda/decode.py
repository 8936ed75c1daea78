"""A video decoded by the GPU's own decoder (NVDEC): its frames never leave the GPU.

PyNvVideoCodec is used where it is installed (`pip install pynvvideocodec`); nothing of jntrt needs it.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jntrt.runtime.cuda.driver import Device
from jntrt.runtime.cuda.frames import DeviceFrame, device_frame
from jntrt.runtime.errors import UserError

AHEAD = 4  # frames that the decoder's thread may be ahead
MODULE = "PyNvVideoCodec"


def nvdec_frames(video: Path, device: Device, stream: int) -> Iterator[DeviceFrame]:
    """The video's frames, H×W×3 RGB uint8 on the GPU, for `DeviceLoop.step` on `stream` (its handle).

    A frame is to be used up before the next one is asked for: the decoder takes its surface back then.
    Raises UserError where PyNvVideoCodec is missing, does not load, or cannot decode the file.
    """
    try:
        codec = importlib.import_module(MODULE)
    except ImportError as error:
        raise UserError("decoding on the GPU needs PyNvVideoCodec: pip install pynvvideocodec") from error
    except RuntimeError as error:  # its own, without libcuda or libnvidia-encode
        raise UserError(f"PyNvVideoCodec does not load: {_first_line(error)}") from error
    if not video.is_file():
        raise UserError(f"{video}: no such file (NVDEC reads video files; all else is decoded on the CPU)")
    device.activate()
    try:
        decoder = codec.ThreadedDecoder(
            str(video),
            buffer_size=AHEAD,
            gpu_id=device.info.ordinal,
            cuda_context=int(device.context),
            cuda_stream=stream,
            use_device_memory=True,
            output_color_type=codec.OutputColorType.RGB,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{video}: NVDEC cannot decode it: {_first_line(error)}") from error
    return _frames(decoder, video, stream)


def _frames(decoder: Any, video: Path, stream: int) -> Iterator[DeviceFrame]:
    try:
        while True:
            try:
                decoded = decoder.get_batch_frames(1)
            except (RuntimeError, ValueError) as error:
                raise UserError(f"{video}: NVDEC stopped: {_first_line(error)}") from error
            if not decoded:
                return
            frame = device_frame(decoded[0], stream)
            if frame is None:
                raise UserError(f"{video}: NVDEC gave a frame that is not on the GPU")
            yield frame
    finally:
        decoder.end()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
