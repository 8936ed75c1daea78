"""The page's server: nothing without the token, Host and Origin; bounded; and never in the tracker's way."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from threading import Thread
from time import monotonic, sleep

import cv2
import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.view import pictures
from jntrt.runtime.view.address import Address
from jntrt.runtime.view.server import BODY_BYTES, STREAMS, serve
from jntrt.runtime.view.session import Session

Page = tuple[Session, int, str]  # its port, the path of its token


@pytest.fixture
def page() -> Iterator[Page]:
    session = Session("clip.mp4", length=None, threshold=0.25)
    with serve(session, Address("127.0.0.1", 0)) as url:
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/[\w-]{20,}/)", url)
        assert match
        yield session, int(match[1]), match[2]


def show(session: Session, index: int, image: np.ndarray) -> None:
    session.show(index, image, np.array([[10.0, 20, 30, 40]]), (0.5,), (False,))


def ask(
    port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    # A stream has no end: of what is let in only the beginning is read.
    data = answer.read(200) if answer.getheader("Content-Length") is None else answer.read()
    connection.close()
    return answer.status, data


JSON = {"Content_Type": "application/json"}


def test_the_page_and_its_files(page: Page) -> None:
    _, port, path = page
    for name, word in [("", b"page.js"), ("page.js", b"EventSource"), ("page.css", b"color-scheme")]:
        code, data = ask(port, path + name)
        assert code == 200
        assert word in data
    assert ask(port, path + "server.py")[0] == 404
    assert ask(port, path + "../server.py")[0] == 404


@pytest.mark.parametrize("name", ["", "page.js", "picture", "events", "order", "none"])
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/wrong-token/", {}),
        ("/caf%C3%A9/", {}),
        ("TOKEN", {"Host": "evil.example:8377"}),
        ("TOKEN", {"Host": "192.168.1.5:8377"}),
        ("TOKEN", {"Origin": "http://evil.example"}),
        ("TOKEN", {"Origin": "null"}),
        ("TOKEN", {"Host": "localhost:9000", "Origin": "http://localhost:9001"}),
    ],
)
def test_strangers_get_nothing(page: Page, name: str, path: str, headers: dict[str, str]) -> None:
    session, port, token = page
    show(session, 0, np.zeros((90, 120, 3), np.uint8))
    where = path.replace("TOKEN", token) + name
    assert ask(port, where, **headers) == (403, b"")
    own = {"Origin": f"http://127.0.0.1:{port}"} if path != "TOKEN" else {}
    assert ask(port, where, "POST", b'{"do": "stop"}', **JSON, **{**own, **headers}) == (403, b"")
    assert not session.stopped


def test_an_order_needs_an_origin_and_json(page: Page) -> None:
    session, port, path = page
    show(session, 0, np.zeros((90, 120, 3), np.uint8))
    order, stop = path + "order", b'{"do": "stop"}'
    origin = {"Origin": f"http://127.0.0.1:{port}"}
    assert ask(port, order, "POST", stop, **JSON) == (403, b"")
    assert ask(port, order, "POST", stop, **origin) == (400, b"")  # no application/json
    assert ask(port, order, "POST", b"{", **JSON, **origin) == (400, b"")
    assert ask(port, order, "POST", b"[" * BODY_BYTES, **JSON, **origin) == (400, b"")
    assert ask(port, order, "POST", b" " * (BODY_BYTES + 1), **JSON, **origin) == (400, b"")
    assert ask(port, order, "POST", b"{}", **JSON, **origin) == (409, b"no such order")
    assert ask(port, path + "page.js", "POST", stop, **JSON, **origin) == (404, b"")
    assert ask(port, path, "DELETE") == (501, b"")
    assert not session.stopped
    tunnel = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
    assert ask(port, order, "POST", stop, **JSON, **tunnel) == (204, b"")
    assert session.stopped


def stream(port: int, path: str) -> socket.socket:
    viewer = socket.create_connection(("127.0.0.1", port), timeout=5)
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    return viewer


def newest_picture(viewer: socket.socket) -> np.ndarray:
    """The first whole picture that the viewer is sent, RGB."""
    data = b""
    while not (match := re.search(rb"Content-Length: (\d+)\r\n\r\n", data)) or len(data) < match.end() + int(
        match[1]
    ):
        data += viewer.recv(1 << 16)
    jpeg = data[match.end() : match.end() + int(match[1])]
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_the_picture_is_the_latest_frame_with_its_box(page: Page) -> None:
    session, port, path = page
    for value in (200, 90):
        show(session, 0, np.full((90, 120, 3), (value, 30, 60), np.uint8))
    with stream(port, path + "picture") as viewer:
        picture = newest_picture(viewer)
    assert picture.shape == (90, 120, 3)
    assert np.abs(picture[80, 100].astype(int) - (90, 30, 60)).max() < 12
    assert np.abs(picture[40, 10].astype(int) - (90, 30, 60)).max() > 40  # the box's left side


def test_a_large_frame_moves_small_and_stands_sharp(page: Page) -> None:
    session, port, path = page
    show(session, 0, np.zeros((1080, 1920, 3), np.uint8))
    with stream(port, path + "picture") as viewer:
        assert newest_picture(viewer).shape == (540, 960, 3)
    session.order({"do": "pause"})
    paused = Thread(target=show, args=(session, 1, np.zeros((1080, 1920, 3), np.uint8)), daemon=True)
    paused.start()
    with stream(port, path + "picture") as viewer:
        while newest_picture(viewer).shape != (1080, 1920, 3):
            pass
    session.stop()
    paused.join(5)


def test_events_carry_state_and_scores(page: Page) -> None:
    session, port, path = page
    show(session, 0, np.zeros((90, 120, 3), np.uint8))
    with stream(port, path + "events") as viewer, viewer.makefile("rb") as lines:
        first = next(json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
        show(session, 1, np.zeros((90, 120, 3), np.uint8))
        second = next(json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
    assert (first["phase"], first["size"], first["boxes"]) == ("run", [120, 90], [[10, 20, 30, 40]])
    assert [first["scores"], second["scores"]] == [[[0, [0.5]]], [[1, [0.5]]]]


def test_two_viewers_share_each_picture_and_a_sleeping_one_holds_nobody_up(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, port, path = page
    made: list[int] = []
    real = pictures._jpeg
    monkeypatch.setattr(pictures, "_jpeg", lambda shown: made.append(shown.number) or real(shown))
    noise = np.random.default_rng(0).integers(0, 255, (540, 960, 3), np.uint8)
    for index in range(20):
        show(session, index, noise)
    sleep(0.2)
    assert made == []  # nobody watches: nothing is encoded
    with stream(port, path + "picture") as awake, stream(port, path + "picture"):
        newest_picture(awake)
        slowest = 0.0
        for index in range(20, 220):
            began = monotonic()
            show(session, index, noise)
            slowest = max(slowest, monotonic() - began)
            sleep(0.005)
            awake.setblocking(False)
            try:
                while awake.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
    assert slowest < 0.5  # a thread that was not scheduled, but no client that was waited for
    assert 5 < len(made) <= 60
    assert len(made) == len(set(made))


def test_streams_are_bounded_and_given_back(page: Page) -> None:
    _, port, path = page
    viewers = [stream(port, path + "events") for _ in range(STREAMS)]
    for viewer in viewers:
        assert viewer.recv(12) == b"HTTP/1.0 200"
    assert ask(port, path + "events")[0] == 503
    for viewer in viewers:
        viewer.close()
    end = monotonic() + 8
    while ask(port, path + "events")[0] == 503:
        assert monotonic() < end
        sleep(0.1)


def test_the_end_is_told_and_shown() -> None:
    session = Session("clip.mp4", length=1, threshold=0.25)
    with serve(session, Address("127.0.0.1", 0)) as url:
        port, path = int(url.split(":")[2].split("/")[0]), f"/{url.split('/')[3]}/"
        show(session, 0, np.zeros((90, 120, 3), np.uint8))
        viewers = [stream(port, path + name) for name in ("events", "picture")]
        for viewer in viewers:
            viewer.recv(12)
    events, picture = (b"".join(iter(lambda viewer=viewer: viewer.recv(4096), b"")) for viewer in viewers)
    assert b'"phase": "end"' in events
    assert picture.count(b"image/jpeg") >= 2
    for viewer in viewers:
        viewer.close()


def test_a_port_that_is_taken() -> None:
    session = Session("clip.mp4", length=1, threshold=0.25)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(UserError, match=rf"--view 127\.0\.0\.1:{port}: cannot listen there"),
            serve(session, Address("127.0.0.1", port)),
        ):
            pass
