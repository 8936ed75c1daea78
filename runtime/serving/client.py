"""A tracker on a Triton server: the same calls as `Tracker`, and no engine on this machine."""

import secrets
from contextlib import suppress
from importlib import import_module
from time import perf_counter
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.result import TrackResult
from jntrt.runtime.serving import protocol
from jntrt.runtime.video.stream import Frame

WAYS = ("raw", "jpeg", "shared")
JPEG_QUALITY = 90


def server_address(url: str) -> str:
    """HOST:PORT of `grpc://HOST:PORT`, 8001 where the port is left out. UserError for another address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 8001
    except ValueError:
        host = None
    if not host or parts.scheme != "grpc" or parts.path not in ("", "/") or parts.query:
        raise UserError(f"--server {url}: an address is grpc://HOST:8001")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ServerTracker:
    """One stream of a server. A context manager; `close` ends the stream.

    way: how a frame travels: raw (exact, 6 MB at 1080p), jpeg (small, quality 90, boxes differ a little),
    shared (exact, memory shared with a server on this machine). timeout: seconds for one answer.
    """

    def __init__(self, url: str, way: str = "raw", timeout: float = 30.0) -> None:
        """Finds the server. Raises UserError: it does not answer, or serves no jntrt_tracker."""
        if way not in WAYS:
            raise UserError(f"--send {way}: choose one of {', '.join(WAYS)}")
        address = server_address(url)
        self._grpc: Any = import_module("tritonclient.grpc")
        self._errors = import_module("tritonclient.utils").InferenceServerException
        self.url, self._way, self._timeout = url, way, timeout
        self._stream, self._running = 0, False
        # As `Tracker.stage_ms`; the way there and back, and all that the server does, is its network.
        self.stage_ms: dict[str, float] = {}
        self._memory: _SharedFrame | None = None
        self._client: Any = self._grpc.InferenceServerClient(address)
        try:
            if not self._client.is_model_ready(protocol.MODEL, client_timeout=timeout):
                raise UserError(f"{url}: no model {protocol.MODEL} there; make one with export-jn triton")
        except self._errors as error:
            self._client.close()
            raise UserError(f"{url}: {_reason(error)}") from None
        except BaseException:
            self._client.close()
            raise

    def init(self, frame: Frame, boxes: ArrayLike) -> None:
        """Start a stream: `frame` H×W×3 uint8 RGB, the targets' boxes x, y, w, h in pixels."""
        self._end()
        # Nobody else's: the number is all that a stream is known by.
        self._stream = secrets.randbits(63) | 1
        self._single = np.ndim(boxes) == 1
        self._ask(frame, start=True, boxes=np.atleast_2d(np.asarray(boxes, np.float64)))
        self._running = True

    def update(self, frame: Frame) -> TrackResult:
        """Find the targets in the next frame. Raises TrackerError with the server's reason."""
        if not self._running:
            raise TrackerError("update before init: show the target with init(frame, box) first")
        began = perf_counter()
        boxes, scores, lost = self._ask(frame)
        self.stage_ms = {"crop": 0.0, "network": 1e3 * (perf_counter() - began), "box": 0.0}
        if self._single:
            return TrackResult(boxes[0], float(scores[0]), bool(lost[0]))
        return TrackResult(boxes, scores, lost, np.zeros(len(lost), np.bool_))

    def close(self) -> None:
        """End the stream and the connection."""
        self._end()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, frame: Frame, *, start: bool = False, boxes: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        try:
            inputs = [self._frame(frame)]
            if boxes is not None:
                inputs.append(self._input(protocol.BOXES, boxes, "FP64"))
            answer = self._infer(inputs, start=start)
        except self._errors as error:
            if start and not _gone(error):  # the server keeps a place for what it refused
                self._running = True
                self._end()
            elif _gone(error):
                self._running = False
            raise TrackerError(f"{self.url}: {_reason(error)}") from None
        boxes = answer.as_numpy(protocol.BOXES)
        return boxes, answer.as_numpy(protocol.SCORES), answer.as_numpy(protocol.LOST)

    def _infer(self, inputs: list[Any], *, start: bool = False, end: bool = False) -> Any:
        return self._client.infer(
            protocol.MODEL,
            inputs,
            sequence_id=self._stream,
            sequence_start=start,
            sequence_end=end,
            client_timeout=self._timeout,
        )

    def _end(self) -> None:
        if not self._running:
            return
        self._running = False
        with suppress(self._errors):  # it forgets the stream by itself
            self._infer([self._input(protocol.BGR, np.zeros(1, np.bool_), "BOOL")], end=True)

    def _frame(self, frame: Frame) -> Any:
        if self._way == "jpeg":
            import cv2

            bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            return self._input(protocol.IMAGE, np.asarray(data, np.uint8).reshape(-1), "UINT8")
        if self._way == "raw":
            return self._input(protocol.FRAME, frame, "UINT8")
        if self._memory is None or self._memory.size != frame.nbytes:
            if self._memory is not None:
                self._memory.close()
            self._memory = _SharedFrame(self._client, frame.nbytes)
        tensor = self._grpc.InferInput(protocol.FRAME, list(frame.shape), "UINT8")
        self._memory.fill(tensor, frame)
        return tensor

    def _input(self, name: str, value: NDArray[Any], kind: str) -> Any:
        tensor = self._grpc.InferInput(name, list(value.shape), kind)
        tensor.set_data_from_numpy(np.ascontiguousarray(value))
        return tensor


class _SharedFrame:
    """Memory of this machine that the server reads a frame from."""

    def __init__(self, client: Any, size: int) -> None:
        self._shared: Any = import_module("tritonclient.utils.shared_memory")
        self._client = client
        self._errors = import_module("tritonclient.utils").InferenceServerException
        self.size, self._name = size, f"jntrt_{secrets.token_hex(8)}"
        self._handle = self._shared.create_shared_memory_region(self._name, f"/{self._name}", size)
        client.register_system_shared_memory(self._name, f"/{self._name}", size)

    def fill(self, tensor: Any, frame: Frame) -> None:
        """Put the frame there and tell `tensor` where it is."""
        self._shared.set_shared_memory_region(self._handle, [np.ascontiguousarray(frame)])
        tensor.set_shared_memory(self._name, self.size)

    def close(self) -> None:
        """Give the memory back."""
        with suppress(self._errors):  # a server that stops, or is a new one
            self._client.unregister_system_shared_memory(self._name)
        self._shared.destroy_shared_memory_region(self._handle)


_SILENT = {
    "UNAVAILABLE": "the server does not answer, or went: start it, then show the target again",
    "DEADLINE_EXCEEDED": "no answer in time: the server is busy with others, or stands",
    "CANCELLED": "the server was stopped: start it, then show the target again",
}
_UNKNOWN = "must specify the START flag"  # Triton's words, before the model is asked


def _gone(error: Any) -> bool:
    """Whether the stream is over, and not just this request refused."""
    return _silence(error) is not None or _UNKNOWN in str(error.message())


def _silence(error: Any) -> str | None:
    return next((told for code, told in _SILENT.items() if code in str(error.status())), None)


def _reason(error: Any) -> str:
    """The server's line, or what a silent one means."""
    if _UNKNOWN in str(error.message()):
        return "the server does not know this stream any more (it was started anew): show the target again"
    return _silence(error) or str(error.message())
