"""The server behind the page: the standard library's, bounded, and deaf to whoever lacks the token."""

import logging
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Event, Thread
from typing import Any
from urllib.parse import urlsplit

from jntrt.runtime.errors import UserError
from jntrt.runtime.view.address import DEFAULT_PORT, Address
from jntrt.runtime.view.pictures import PER_SECOND, Pictures
from jntrt.runtime.view.session import Session

log = logging.getLogger(__name__)

CONNECTIONS, STREAMS = 32, 16  # at once; a viewer keeps two streams open, pictures and events
BODY_BYTES = 4096
SILENCE_SECONDS = 10.0  # a client that sends or takes nothing for so long is dropped
EVENTS_PER_SECOND = 15
REPEAT_SECONDS = 2.0  # what stands still is sent again: that is how a viewer that left is noticed
SOON_SECONDS = 0.1
END_SECONDS = 5.0  # for viewers to take the last frame; a loaded machine's needed more than 2

_PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
}


@contextmanager
def serve(session: Session, address: Address) -> Iterator[str]:
    """Serve `session` in threads of its own; the context's value is the page's URL, token included.

    On leaving, viewers get the last frame before the server goes. UserError where it cannot listen.
    """
    server = _listen(session, address)
    Thread(target=server.serve_forever, name="view", daemon=True).start()
    try:
        yield f"http://{address.shown}:{server.server_address[1]}/{server.token}/"
    finally:
        session.end()
        server.drain()
        server.shutdown()
        server.server_close()


def _listen(session: Session, address: Address) -> "_Server":
    ports = [address.port] if address.port is not None else [DEFAULT_PORT, 0]
    for port in ports:
        try:
            return _Server(session, address, port)
        except OSError as error:
            if port == ports[-1]:
                place = f"{address.host}:{port}"
                raise UserError(f"--view {place}: cannot listen there ({error.strerror or error})") from None
    raise AssertionError("no port was tried")


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, session: Session, address: Address, port: int) -> None:
        self.session, self.address = session, address
        self.token = secrets.token_urlsafe(16)
        self.pictures = Pictures(session)
        self.streams = BoundedSemaphore(STREAMS)
        self.closing = Event()
        self._connections = BoundedSemaphore(CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, port), _Handler)

    def drain(self) -> None:
        """Wait until the streams have ended by themselves, at most END_SECONDS."""
        until = time.monotonic() + END_SECONDS
        for _ in range(STREAMS):  # all of them are free: nobody is being sent anything
            if not self.streams.acquire(timeout=max(0.0, until - time.monotonic())):
                break
        self.closing.set()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a viewer's request failed", exc_info=True)  # mostly: the viewer went away


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENCE_SECONDS

    def do_GET(self) -> None:
        name = self._admitted()
        if name in _PAGE:
            file, kind = _PAGE[name]
            self._answer(200, Path(__file__).with_name(file).read_bytes(), kind)
        elif name in ("picture", "events"):
            self._stream(name)
        else:
            self._answer(404 if name is not None else 403)

    def do_POST(self) -> None:
        name = self._admitted()
        if name is None or "Origin" not in self.headers:
            self._answer(403)
        elif name != "order":
            self._answer(404)
        elif (length := self._body_length()) is None:
            self._answer(400)
        else:
            try:
                self.server.session.order(loads(self.rfile.read(length)))
            except UserError as error:
                self._answer(409, str(error).encode(), "text/plain; charset=utf-8")
            except (JSONDecodeError, UnicodeDecodeError, RecursionError):
                self._answer(400)
            else:
                self._answer(204)

    def _admitted(self) -> str | None:
        """What is asked for under the token; None where token, Host or Origin are not ours."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if not self.server.address.allows(host) or (origin is not None and origin != f"http://{host}"):
            return None
        token, slash, name = urlsplit(self.path).path.removeprefix("/").partition("/")
        ours = secrets.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())
        return name if ours and slash else None

    def _body_length(self) -> int | None:
        text = self.headers.get("Content-Length", "")
        length = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else BODY_BYTES + 1
        is_json = self.headers.get_content_type() == "application/json"
        return length if is_json and length <= BODY_BYTES else None

    def _stream(self, name: str) -> None:
        if not self.server.streams.acquire(blocking=False):
            self._answer(503)
            return
        try:
            if name == "picture":
                self._send_pictures()
            else:
                self._send_events()
        finally:
            self.server.streams.release()

    def _send_pictures(self) -> None:
        """Always the latest frame. A slow viewer skips frames: few bytes wait for it on this side."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        self._begin("multipart/x-mixed-replace; boundary=frame")
        self.wfile.write(b"--frame\r\n")
        number, repeat_at = 0, 0.0
        while not self.server.closing.wait(1 / PER_SECOND):
            over = self.server.session.over
            picture = self.server.pictures.newest(number)
            now = time.monotonic()
            # Browsers show a picture once the next one begins: what stands still is sent again soon.
            repeat_at = repeat_at if picture is None else now + SOON_SECONDS
            if picture is None and now > repeat_at:
                picture = self.server.pictures.newest(0)
                repeat_at = now + REPEAT_SECONDS
            if picture is not None:
                number, jpeg = picture
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                self.wfile.write((head + jpeg + b"\r\n--frame\r\n") * (2 if over else 1))
            if over:
                break

    def _send_events(self) -> None:
        """The state as server-sent events: when something changed, and as a sign of life."""
        self._begin("text/event-stream")
        since, before, sent = 0, None, 0.0
        while not self.server.closing.wait(1 / EVENTS_PER_SECOND):
            over = self.server.session.over
            state, since = self.server.session.state(since)
            if state != before or time.monotonic() - sent > REPEAT_SECONDS:
                self.wfile.write(b"data: " + dumps(state).encode() + b"\n\n")
                before, sent = {**state, "scores": []}, time.monotonic()
            if over:
                break

    def _begin(self, kind: str) -> None:
        self.send_response_only(200)
        for key, value in {**_HEADERS, "Content-Type": kind}.items():
            self.send_header(key, value)
        self.end_headers()

    def _answer(self, code: int, body: bytes = b"", kind: str | None = None) -> None:
        self.send_response_only(code)
        headers = {**_HEADERS, "Content-Type": kind} if kind else {}
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The standard library's own refusals, without the page that it would write."""
        self._answer(code)

    def log_message(self, format: str, *words: object) -> None:
        log.debug(format, *words)
