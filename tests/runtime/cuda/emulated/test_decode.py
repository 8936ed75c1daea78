"""Frames that stay on the GPU, from a decoder that answers as PyNvVideoCodec 2.2 does."""

import ctypes
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from golden_bundles import export_golden, golden_loop

from jntrt.runtime import Tracker
from jntrt.runtime.cuda import decode
from jntrt.runtime.cuda.driver import Buffer, Device, Stream
from jntrt.runtime.errors import UserError
from jntrt.runtime.video.sources import frames


class Decoded:
    def __init__(self, device: Device, array: np.ndarray) -> None:
        self.buffer = Buffer(device, array.nbytes)
        stream = Stream(device)
        stream.copy(self.buffer.pointer, array.ctypes.data, array.nbytes)
        memory = (ctypes.c_uint8 * array.nbytes).from_address(self.buffer.pointer)
        self.array = np.frombuffer(memory, np.uint8).reshape(array.shape)
        self.shape = array.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, *, stream: int) -> Any:
        return self.array.__dlpack__()


class PyNvVCException(Exception):
    """The module's own: it derives from Exception alone."""


class ThreadedDecoder:
    """Its surface is taken back at the next call, as the real one's is."""

    ended = 0
    fails_after: int | None = None
    opens = staticmethod(lambda path: Path(path).read_bytes().startswith(b"video"))

    def __init__(self, path: str, **settings: Any) -> None:
        if not type(self).opens(path):
            raise PyNvVCException("no stream\nmore")
        assert settings["output_color_type"] == "RGB"
        assert settings["use_device_memory"]
        assert settings["cuda_context"]
        assert settings["cuda_stream"] > 1  # neither the legacy stream, nor none
        self.device = DEVICES[0]
        self.waiting = list(FRAMES)
        self.lent: Decoded | None = None

    def get_batch_frames(self, count: int) -> list[Decoded]:
        assert count == 1
        if self.lent is not None:
            self.lent.buffer.free()
        if self.fails_after is not None and len(FRAMES) - len(self.waiting) >= self.fails_after:
            raise PyNvVCException("cuvidDecodePicture failed\nmore")
        self.lent = Decoded(self.device, self.waiting.pop(0)) if self.waiting else None
        return [] if self.lent is None else [self.lent]

    def get_stream_metadata(self) -> SimpleNamespace:
        return SimpleNamespace(average_fps=30.0, num_frames=len(FRAMES))

    def end(self) -> None:
        type(self).ended += 1


FRAMES: list[np.ndarray] = []
DEVICES: list[Device] = []


@pytest.fixture
def codec(device: Device, monkeypatch: pytest.MonkeyPatch) -> type[ThreadedDecoder]:
    module = SimpleNamespace(ThreadedDecoder=ThreadedDecoder, OutputColorType=SimpleNamespace(RGB="RGB"))
    monkeypatch.setitem(sys.modules, decode.MODULE, module)
    DEVICES[:] = [device]
    FRAMES[:] = [golden_loop("jn").frame(number) for number in range(6)]
    monkeypatch.setattr(ThreadedDecoder, "ended", 0)
    return ThreadedDecoder


def test_tracked_where_they_are_decoded(
    codec: type[ThreadedDecoder], host_backend: str, device: Device, tmp_path: Path
) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"video")
    loop = golden_loop("jn")
    with Tracker.from_bundle(export_golden("jn256_ce", tmp_path / "jn"), backend=host_backend) as tracker:
        frames = decode.nvdec_frames(str(video), device)
        assert (frames.fps, frames.length) == (Fraction(30), 6)
        tracker.init(next(frames), loop.init_box)
        boxes = [tracker.update(frame).box for frame in frames]
    np.testing.assert_allclose(boxes, [step.after for step in loop.steps[:5]], rtol=0, atol=1e-3)
    assert codec.ended == 1


def test_a_decoder_that_stops(
    codec: type[ThreadedDecoder], device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"video")
    monkeypatch.setattr(ThreadedDecoder, "fails_after", 2)
    frames = decode.nvdec_frames(str(video), device)
    assert [next(frames).shape for _ in range(2)] == [(252, 336, 3)] * 2
    with pytest.raises(UserError, match=r"NVDEC stopped: cuvidDecodePicture failed$"):
        next(frames)
    assert codec.ended == 1


def test_a_file_that_is_no_video(codec: type[ThreadedDecoder], device: Device, tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"corrupt")
    with pytest.raises(UserError, match=r"clip\.mp4: NVDEC cannot decode it: no stream$"):
        decode.nvdec_frames(str(video), device)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_video_that_is_turned(
    codec: type[ThreadedDecoder],
    host_backend: str,
    device: Device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    degrees: int,
) -> None:
    """Boxes are those of frames that are turned as the CPU's path turns them, and so as a player does."""
    video = tmp_path / "turned.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with frames(str(video)) as reader:
        on_cpu = next(reader).shape
    assert on_cpu == ((48, 64, 3) if degrees == 180 else (64, 48, 3))
    turns = round(next(av.open(str(video)).decode(video=0)).rotation / 90)
    # What NVDEC decodes lies in memory as it was recorded: the golden loop's frames, turned back.
    loop = golden_loop("jn")
    FRAMES[:] = [np.ascontiguousarray(np.rot90(loop.frame(number), -turns)) for number in range(6)]
    monkeypatch.setattr(ThreadedDecoder, "opens", lambda path: True)
    with Tracker.from_bundle(export_golden("jn256_ce", tmp_path / "jn"), backend=host_backend) as tracker:
        decoded = decode.nvdec_frames(str(video), device)
        tracker.init(next(decoded), loop.init_box)
        boxes = [tracker.update(frame).box for frame in decoded]
    np.testing.assert_allclose(boxes, [step.after for step in loop.steps[:5]], rtol=0, atol=1e-3)


def test_without_it(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MODULE", "a_codec_that_is_nowhere")
    with pytest.raises(UserError, match="pip install pynvvideocodec"):
        decode.nvdec_frames(str(tmp_path / "clip.mp4"), device)


def test_no_file(codec: type[ThreadedDecoder], device: Device, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        decode.nvdec_frames(str(tmp_path / "none.mp4"), device)


def test_trtrun_keeps_frames_on_the_gpu(
    codec: type[ThreadedDecoder],
    host_backend: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jntrt.runtime import engines
    from jntrt.runtime.command.app import run
    from jntrt.runtime.trtrun.cli import app

    monkeypatch.setitem(engines.BACKENDS, "host", "nowhere:Nothing")
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"video")
    loop = golden_loop("jn")
    bundle = export_golden("jn256_ce", tmp_path / "jn").path
    box = ",".join(map(str, loop.init_box))
    words = [str(video), "--bundle", str(bundle), "--backend", "host", "--decode", "gpu"]
    assert run(app, [*words, "--init", box]) == 0
    lines = capsys.readouterr().out.split()
    assert len(lines) == 6
    last = [float(value) for value in lines[-1].split(",")]
    np.testing.assert_allclose(last, loop.steps[4].after, rtol=0, atol=0.01)
    assert run(app, words) == 2
    assert run(app, [*words, "--init", box, "--save", str(tmp_path / "out.mp4")]) == 2
    assert "--decode gpu: frames stay on the GPU" in capsys.readouterr().err
