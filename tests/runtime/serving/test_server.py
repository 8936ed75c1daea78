"""The served tracker, without Triton: the same boxes as in one process, and what goes wrong is one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jntrt.export.triton.repository import write_repository
from jntrt.export.triton.serving import Serving
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.result import TrackResult
from jntrt.runtime.serving import client as client_module
from jntrt.runtime.serving.client import ServerTracker, server_address
from jntrt.runtime.serving.streams import Limits, Request, Streams
from jntrt.runtime.tracker import Tracker

from .fake_triton import Stub, Wire, load

BOX = (60.0, 40.0, 30.0, 24.0)
URL = "grpc://camera.example:8001"


def clip(count: int = 6) -> list[np.ndarray]:
    """A textured square that moves over noise, 160×120."""
    rng = np.random.default_rng(3)
    ground = rng.integers(90, 130, (120, 160, 3), dtype=np.uint8)
    target = rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)
    frames = []
    for number in range(count):
        frame = ground.copy()
        frame[40 + number : 64 + number, 60 + 2 * number : 90 + 2 * number] = target
        frames.append(frame)
    return frames


def alone(frames: list[np.ndarray], box: Any = BOX) -> list[TrackResult]:
    with Tracker.from_bundle("nanotrack-v3", backend="onnxruntime", threads=1) as tracker:
        tracker.init(frames[0], box)
        return [tracker.update(frame) for frame in frames[1:]]


def same(ours: list[TrackResult], theirs: list[TrackResult]) -> bool:
    return len(ours) == len(theirs) and all(
        np.array_equal(a.box, b.box) and a.score == b.score and a.lost == b.lost
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("serving") / "repository"
    write_repository(open_bundle("nanotrack-v3"), place, Serving(streams=2, targets=3, max_pixels=160 * 121))
    return place


@pytest.fixture
def wire(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    wire = Wire(load(repository, Stub(), monkeypatch))
    monkeypatch.setattr(client_module, "import_module", wire.module)
    yield wire
    assert wire.model is not None
    wire.model.finalize()


@pytest.mark.parametrize("way", ["raw", "shared"])
def test_a_served_stream_is_the_tracker_to_the_last_bit(wire: Wire, way: str) -> None:
    frames = clip()
    with ServerTracker(URL, way) as tracker:
        tracker.init(frames[0], BOX)
        assert same([tracker.update(frame) for frame in frames[1:]], alone(frames))
    assert not wire.known


def test_jpeg_is_small_and_near(wire: Wire) -> None:
    frames = [cv2.GaussianBlur(frame, (9, 9), 3) for frame in clip()]
    with ServerTracker(URL, "jpeg") as tracker:
        tracker.init(frames[0], BOX)
        found = [tracker.update(frame) for frame in frames[1:]]
    assert wire.sent[0]["image"].nbytes < frames[0].nbytes / 4
    for ours, theirs in zip(found, alone(frames), strict=True):
        np.testing.assert_allclose(ours.box, theirs.box, atol=3)


def test_streams_do_not_see_each_other(wire: Wire) -> None:
    frames, other = clip(), [frame[::-1].copy() for frame in clip()]
    box = (60.0, 120.0 - 40 - 24, 30.0, 24.0)
    with ServerTracker(URL) as first, ServerTracker(URL) as second:
        first.init(frames[0], BOX)
        second.init(other[0], box)
        pairs = [(first.update(a), second.update(b)) for a, b in zip(frames[1:], other[1:], strict=True)]
    assert same([pair[0] for pair in pairs], alone(frames))
    assert same([pair[1] for pair in pairs], alone(other, box))


def test_several_targets_and_an_image_s_bytes_and_bgr(wire: Wire) -> None:
    frames = clip()
    boxes = np.array([BOX, (20.0, 20.0, 30.0, 30.0)])
    model = wire.model
    assert model is not None

    def ask(number: int, **tensors: Any) -> Any:
        start = np.array([int("boxes" in tensors)], np.int32)
        controls = {"start": start, "end": np.zeros(1, np.int32), "stream": np.array([7], np.uint64)}
        (response,) = model.execute([tensors | controls])
        assert response.error is None
        return response.tensors

    def png(frame: np.ndarray) -> np.ndarray:
        return cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].reshape(-1)

    began = ask(0, frame=frames[0][..., ::-1].copy(), bgr=np.ones(1, np.bool_), boxes=boxes)
    np.testing.assert_array_equal(began["boxes"], boxes)
    raw, coded = ask(1, frame=frames[1][..., ::-1].copy()), ask(2, image=png(frames[2]))
    for target, box in enumerate(boxes):
        expected = alone(frames[:3], box)
        for got, wanted in zip((raw, coded), expected, strict=True):
            np.testing.assert_array_equal(got["boxes"][target], wanted.box)
            assert (got["scores"][target], got["lost"][target]) == (wanted.score, wanted.lost)


def test_a_restarted_server_is_one_clear_error_and_a_new_start(
    wire: Wire, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = clip()
    with ServerTracker(URL) as tracker:
        tracker.init(frames[0], BOX)
        model, wire.model = wire.model, None
        with pytest.raises(TrackerError, match=r"^grpc://camera\.example:8001: the server does not answer"):
            tracker.update(frames[1])
        assert model is not None
        model.finalize()
        wire.restart(load(repository, Stub(), monkeypatch))
        with pytest.raises(TrackerError, match="update before init"):
            tracker.update(frames[1])
        tracker.init(frames[0], BOX)
        assert same([tracker.update(frame) for frame in frames[1:]], alone(frames))
        wire.known.clear()
        with pytest.raises(TrackerError, match=r"does not know this stream any more.*show the target again$"):
            tracker.update(frames[1])


def test_a_frame_of_another_size_leaves_the_stream_where_it_was(wire: Wire) -> None:
    frames = clip()
    with ServerTracker(URL) as tracker:
        tracker.init(frames[0], BOX)
        first = tracker.update(frames[1])
        with pytest.raises(TrackerError, match="the frame is 160×60, at init it was 160×120"):
            tracker.update(frames[2][:60])
        assert same([first, *(tracker.update(frame) for frame in frames[2:])], alone(frames))


def test_what_is_too_much_is_refused_and_leaves_no_place_taken(wire: Wire) -> None:
    frames = clip(2)
    with ServerTracker(URL) as first, ServerTracker(URL) as second, ServerTracker(URL) as third:
        with pytest.raises(TrackerError, match=r"a frame of 160×122 is above 19360 pixels"):
            first.init(np.zeros((122, 160, 3), np.uint8), BOX)
        with pytest.raises(TrackerError, match="4 targets: this server follows 3 of a stream"):
            first.init(frames[0], [BOX] * 4)
        with pytest.raises(TrackerError, match="outside the frame"):
            first.init(frames[0], (900.0, 900.0, 10.0, 10.0))
        assert not wire.known
        first.init(frames[0], BOX)
        second.init(frames[0], BOX)
        with pytest.raises(TrackerError, match="follows 2 streams already"):
            third.init(frames[0], BOX)
        second.close()
        third.init(frames[0], BOX)
        first.update(frames[1])


def test_damaged_requests_are_answered(wire: Wire) -> None:
    model = wire.model
    assert model is not None
    start = {"start": np.ones(1, np.int32), "stream": np.array([9], np.uint64)}
    frame, boxes = clip(1)[0], np.array([BOX])
    bomb = cv2.imencode(".png", np.zeros((4000, 4000, 3), np.uint8))[1].reshape(-1)
    for tensors, told in (
        ({"frame": frame}, "give boxes"),
        ({"frame": frame, "boxes": np.full((1, 4), np.nan)}, "must be above zero"),
        ({"boxes": boxes}, "one frame"),
        ({"frame": frame, "image": bomb, "boxes": boxes}, "one frame"),
        ({"image": np.array([*b"../../etc/passwd"], np.uint8), "boxes": boxes}, "not a readable image"),
        ({"image": bomb, "boxes": boxes}, "above 19360 pixels"),
        ({"frame": np.zeros((0, 0, 3), np.uint8), "boxes": boxes}, "no pixels"),
    ):
        (response,) = model.execute([start | tensors])
        assert told in response.error
        assert "\n" not in response.error


def test_what_nobody_foresaw_names_no_path_to_the_client(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = wire.model
    assert model is not None
    monkeypatch.setattr(model._streams, "answer", lambda request: 1 / 0)
    (response,) = model.execute([{"stream": np.array([9], np.uint64)}])
    assert response.error == "the server failed on this request; its log says why"
    assert "ZeroDivisionError" in caplog.text


def test_a_dead_client_s_stream_is_forgotten_and_a_paused_one_s_is_not() -> None:
    now = [0.0]
    limits = Limits(pixels=1 << 20, streams=1, targets=1, idle=600.0)
    frames = clip(3)
    with Tracker.from_bundle("nanotrack-v3", "onnxruntime") as engine:
        streams = Streams(engine.another, 1, limits, clock=lambda: now[0])
        streams.answer(Request(1, start=True, frame=frames[0], boxes=np.array([BOX])))
        now[0] = 599.0
        streams.answer(Request(1, frame=frames[1]))
        now[0] = 1198.0
        with pytest.raises(UserError, match="follows 1 streams already"):
            streams.answer(Request(2, start=True, frame=frames[0], boxes=np.array([BOX])))
        now[0] = 1199.5
        streams.answer(Request(2, start=True, frame=frames[0], boxes=np.array([BOX])))
        with pytest.raises(UserError, match="nothing came for 600 s"):
            streams.answer(Request(1, frame=frames[2]))
        streams.answer(Request(2, end=True))
        assert len(streams) == 0


def test_the_networks_of_the_server_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--networks served`: the two graphs as models of the server; here ONNX Runtime stands in for them."""
    import onnxruntime as ort

    repository = tmp_path / "repository"
    write_repository(open_bundle("nanotrack-v3"), repository, Serving(networks="served"))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1

    def network(name: str) -> Any:
        session = ort.InferenceSession(str(repository / name / "1" / "model.onnx"), options)
        names = [output.name for output in session.get_outputs()]
        return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True))

    networks = {name: network(name) for name in ("jntrt_template", "jntrt_track")}
    model = load(repository, Stub(networks), monkeypatch)
    wire = Wire(model)
    monkeypatch.setattr(client_module, "import_module", wire.module)
    frames = clip()
    with ServerTracker(URL) as tracker:
        tracker.init(frames[0], BOX)
        assert same([tracker.update(frame) for frame in frames[1:]], alone(frames))
        networks.clear()
        model_gone = load(repository, Stub({}), monkeypatch)
        wire.restart(model_gone)
        with pytest.raises(TrackerError, match="jntrt_template: model is not ready"):
            tracker.init(frames[0], BOX)
    model.finalize()


def test_addresses() -> None:
    assert server_address("grpc://host") == "host:8001"
    assert server_address("grpc://[::1]:9") == "[::1]:9"
    for url in ("host:8001", "http://host:8001", "grpc://", "grpc://host:99999", "grpc://host/model"):
        with pytest.raises(UserError, match="an address is grpc://HOST:8001"):
            server_address(url)
    with pytest.raises(UserError, match="--send png: choose one of raw, jpeg, shared"):
        ServerTracker("grpc://host", "png")
