"""The questions that are asked in processes of their own, by name and words."""

import importlib
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from jntrt.runtime.trtrun.doctor.child import answer
from jntrt.runtime.trtrun.doctor.gpu import read_gpus

_FRAMES = 5  # that an encoder is tried with
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")


def library_version(module: str) -> dict[str, Any]:
    """What a module calls its version, once it has loaded."""
    from jntrt.runtime.telemetry import silent_openvino

    with silent_openvino():
        loaded = importlib.import_module(module)
    found = getattr(loaded, "__version__", None)
    return {"version": None if found is None else str(found)}


def processor() -> dict[str, Any]:
    """The processor's instruction sets, and whether int8 saturates on it."""
    from jntrt.runtime.engines.cpu import features, saturates_int8

    return {"features": sorted(features()), "saturates": saturates_int8()}


def crop() -> dict[str, Any]:
    """Which of its two ways the crop takes."""
    from jntrt.runtime import crop as cropping

    return {"native": cropping._native is not None}


def codecs() -> dict[str, Any]:
    """FFmpeg's version, which decoders it has, and which encoders wrote a video that was read again."""
    import av
    import numpy as np

    from jntrt.runtime.errors import UserError
    from jntrt.runtime.video.sources import frames
    from jntrt.runtime.video.writer import Encoding, VideoWriter, encoders

    picture = np.full((288, 352, 3), 90, np.uint8)  # what is smaller, hardware refuses
    works, fails = [], {}
    with tempfile.TemporaryDirectory(prefix="jntrt-doctor-") as folder:
        for encoder in encoders():
            path = Path(folder, f"{encoder}.mp4")
            try:
                with VideoWriter(path, Fraction(25), Encoding(encoder)) as writer:
                    for _ in range(_FRAMES):
                        writer.write(picture)
                with frames(str(path)) as stream:
                    read = sum(1 for _ in stream)
                if read != _FRAMES:
                    raise UserError(f"of {_FRAMES} frames {read} came back")
                works.append(encoder)
            except (UserError, OSError) as error:
                fails[encoder] = str(error).removeprefix(f"{path}: ")
    return {
        "av": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "decoders": [name for name in _DECODERS if name in av.codecs_available],
        "encoders": works,
        "failing encoders": fails,
    }


def windows() -> dict[str, Any]:
    """Whether there is a display, and whether OpenCV opens windows on it (None: not tried)."""
    from jntrt.runtime.errors import UserError
    from jntrt.runtime.trtrun.window import Window, has_display

    if not has_display():
        return {"display": False, "window": None}
    try:
        with Window.opened():
            return {"display": True, "window": True}
    except UserError as error:
        return {"display": True, "window": False, "reason": str(error)}


def bundles() -> dict[str, Any]:
    """The packaged bundles: a line on each, or what is wrong with its files."""
    from jntrt.runtime.bundle.packaged import describe, open_packaged, packaged_names
    from jntrt.runtime.errors import UserError

    found: dict[str, Any] = {}
    for name in packaged_names():
        try:
            bundle = open_packaged(name)
            files = len(bundle.verify())
            found[name] = {"line": describe(bundle), "files": files, "sha256": bundle.sha256}
        except UserError as error:
            found[name] = {"fault": str(error)}
    return found


_QUESTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "version": library_version,
    "processor": processor,
    "gpus": read_gpus,
    "crop": crop,
    "codecs": codecs,
    "windows": windows,
    "bundles": bundles,
}

if __name__ == "__main__":
    name, *words = sys.argv[1:]
    answer(lambda: _QUESTIONS[name](*words))
