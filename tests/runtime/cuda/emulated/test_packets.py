"""NV12 frames, and a live stream whose packets a decoder takes that answers as PyNvVideoCodec 2.2 does."""

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from golden_bundles import export_golden, golden_loop, write_nanotrack
from numpy.typing import NDArray

from jntrt.runtime import Tracker, TrackResult
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.cuda import decode, packets
from jntrt.runtime.cuda.driver import Buffer, Device, Stream
from jntrt.runtime.cuda.frames import MATRICES, Nv12, rgb_of
from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.video.videos import open_stream

ADDRESS = "rtsp://user:secret@camera/stream"


def nv12_of(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """The planes of a yuv420p picture as NVDEC lays them."""
    planes = [
        np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]
        for plane in picture.planes
    ]
    chroma = np.stack(planes[1:], axis=-1).reshape(planes[1].shape[0], -1)
    return np.concatenate([planes[0], chroma])


def of_rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return nv12_of(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p"))


class Surface:
    """Device memory of (3·H/2)×W bytes."""

    def __init__(self, device: Device, array: NDArray[np.uint8]) -> None:
        self.buffer = Buffer(device, array.nbytes)
        Stream(device).copy(self.buffer.pointer, array.ctypes.data, array.nbytes)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": "|u1",
            "data": (self.buffer.pointer, False),
            "strides": None,
            "version": 3,
            "stream": 1,
        }


def as_rgb(surface: NDArray[np.uint8], matrix: str = "bt601", turns: int = 0) -> NDArray[np.uint8]:
    """Its picture upright; test_cuda_kernels.py compares `rgb_of` with what FFmpeg makes of planes."""
    return np.ascontiguousarray(np.rot90(rgb_of(surface, matrix), turns))


def tracked(bundle: Bundle, pictures: list[NDArray[np.uint8]]) -> list[TrackResult]:
    """The CPU's boxes."""
    with Tracker.from_bundle(bundle, backend="onnxruntime", threads=1) as tracker:
        tracker.init(pictures[0], golden_loop("jn").init_box)
        return [tracker.update(picture) for picture in pictures[1:]]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("color", "turns"), [("rgb", 0), ("bgr", 0), ("rgb", 1)])
def test_nv12_frames_are_tracked_in_place(
    host_backend: str, device: Device, tmp_path: Path, color: str, turns: int, matrix: str
) -> None:
    """The boxes of the picture in RGB, to the bit, whatever order other frames' colours have."""
    loop = golden_loop("jn")
    bundle = export_golden("jn256_ce", tmp_path / "jn")
    surfaces = [of_rgb(np.ascontiguousarray(np.rot90(loop.frame(n), -turns))) for n in range(5)]
    wanted = tracked(bundle, [as_rgb(surface, matrix, turns) for surface in surfaces])
    with Tracker.from_bundle(bundle, backend=host_backend, color=color) as tracker:
        tracker.init(Nv12(Surface(device, surfaces[0]), matrix, turns), loop.init_box)
        for surface, result in zip(surfaces[1:], wanted, strict=True):
            found = tracker.update(Nv12(Surface(device, surface), matrix, turns))
            np.testing.assert_array_equal(found.box, result.box)
            assert found.score == result.score


def test_the_mean_colour_of_an_nv12_frame(host_backend: str, device: Device, tmp_path: Path) -> None:
    bundle = write_nanotrack("v3", tmp_path / "nano")
    frame = golden_loop("jn").frame(0)
    with Tracker.from_bundle(bundle, backend=host_backend) as tracker:
        tracker.init(Nv12(Surface(device, of_rgb(frame)), "bt601", 2), (40, 40, 30, 30))
        borders = tracker._loop._borders  # type: ignore[attr-defined]
    np.testing.assert_allclose(borders[1], frame.mean(axis=(0, 1)), atol=3)


@pytest.mark.parametrize(
    ("shape", "matrix", "words"),
    [
        ((10, 8), "bt601", "3·H/2 rows of an even width, not 10 of 8"),
        ((9, 7), "bt709", "3·H/2 rows of an even width, not 9 of 7"),
        ((9, 8), "bt2020", "bt601 or bt709, not 'bt2020'"),
        ((6, 8, 3), "bt709", r"an NV12 surface is \(3·H/2\)×W of uint8, not"),
    ],
)
def test_what_is_no_nv12(
    host_backend: str, device: Device, tmp_path: Path, shape: tuple[int, ...], matrix: str, words: str
) -> None:
    with Tracker.from_bundle(export_golden("jn256_ce", tmp_path / "jn"), backend=host_backend) as tracker:
        with pytest.raises(TrackerError, match=words):
            tracker.init(Nv12(Surface(device, np.zeros(shape, np.uint8)), matrix), (1, 1, 5, 5))
        with pytest.raises(TrackerError, match="lies on the GPU, not a ndarray"):
            tracker.init(Nv12(np.zeros((9, 8), np.uint8)), (1, 1, 5, 5))


class Codec:
    """The module: its decoder is FFmpeg's, fed with the bytes of the packets that it was given."""

    OutputColorType = SimpleNamespace(NATIVE="native")
    DisplayDecodeLatencyType = SimpleNamespace(LOW="low")
    cudaVideoCodec = SimpleNamespace(H264="h264", HEVC="hevc")
    PacketData = SimpleNamespace

    def __init__(self, device: Device) -> None:
        self.device, self.settings, self.fails_at, self.packets = device, {}, -1, 0
        self.lent: list[Surface] = []

    def CreateDecoder(self, **settings: Any) -> "Codec":
        assert settings["usedevicememory"]
        assert settings["cudastream"] > 1
        self.settings = settings
        self.context = av.CodecContext.create(settings["codec"], "r")  # no extradata: packets say it all
        return self

    def Decode(self, packet: Any) -> list[Surface]:
        self.packets += 1
        if self.packets == self.fails_at:
            raise RuntimeError("cuvidParseVideoData failed\nmore")
        for surface in self.lent:
            surface.buffer.free()
        content = ctypes.string_at(packet.bsl_data, packet.bsl) if packet.bsl else None
        pictures = self.context.decode(None if content is None else av.Packet(content))
        self.lent = [Surface(self.device, nv12_of(picture)) for picture in pictures]
        return self.lent


@pytest.fixture
def codec(device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Codec:
    """A camera whose stream is a recording of the golden loop (with its packets in MP4's form)."""
    video = tmp_path / "camera.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "1", "bf": "2"})
        stream.height, stream.width = golden_loop("jn").frame(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(6):
            picture = av.VideoFrame.from_ndarray(golden_loop("jn").frame(number), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())

    def camera(address: str, shown: str, remote: bool, max_pixels: int) -> Any:
        assert (address, shown, remote) == (ADDRESS, "rtsp://camera/stream", True)
        return open_stream(str(video), shown, False, max_pixels)

    module = Codec(device)
    monkeypatch.setattr(packets, "open_stream", camera)
    monkeypatch.setitem(sys.modules, decode.MODULE, module)  # type: ignore[arg-type]
    return module


def test_a_stream_is_tracked_where_it_is_decoded(
    codec: Codec, host_backend: str, device: Device, tmp_path: Path, emulated: Any
) -> None:
    bundle, loop = export_golden("jn256_ce", tmp_path / "jn"), golden_loop("jn")
    with av.open(str(tmp_path / "camera.mp4")) as container:
        wanted = tracked(bundle, [as_rgb(nv12_of(picture)) for picture in container.decode(video=0)])
    gone = emulated.calls("stream gone")
    with Tracker.from_bundle(bundle, backend=host_backend) as tracker:
        frames = decode.nvdec_frames(ADDRESS, device)
        assert (frames.name, frames.live, frames.fps) == ("rtsp://camera/stream", True, 30)
        tracker.init(next(frames), loop.init_box)
        boxes = [tracker.update(frame).box for frame in frames]
    np.testing.assert_array_equal(boxes, [result.box for result in wanted])
    assert (codec.settings["codec"], codec.settings["outputColorType"]) == ("h264", "native")
    assert emulated.calls("stream gone") - gone == 2  # the tracker's and the decoder's


def test_a_stream_that_nvdec_stops_at(codec: Codec, device: Device) -> None:
    codec.fails_at = 3
    frames = decode.nvdec_frames(ADDRESS, device)
    with pytest.raises(UserError, match=r"camera/stream: NVDEC stopped: cuvidParseVideoData failed$"):
        list(frames)


def test_a_stream_that_nvdec_does_not_decode(
    codec: Codec, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "_CODECS", {})
    with pytest.raises(UserError, match=r"h264 of yuv420p is not H\.264 or HEVC.*leave it out$"):
        decode.nvdec_frames(ADDRESS, device)
