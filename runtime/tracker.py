"""The tracker: a frame's path from pixels to box.

    rectangle (geometry) → crop → network (backend) → box (geometry) → state

`init` runs the template graph once on the crop around the given boxes and keeps its memory; `update`
crops around the last state, runs the track graph, and maps the box back to the frame. State is float64,
unrounded.
"""

import functools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle, open_bundle
from jntrt.runtime.engines import open_pair
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.inputs import side_inputs

MAX_COORDINATE = 1e6  # pixels; a crop's pixels are counted in 32 bits

Frame = NDArray[np.uint8]


P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(
    method: Callable[Concatenate["Tracker", P], R],
) -> Callable[Concatenate["Tracker", P], R]:
    """The method waits for another thread's: an engine must not be closed while it runs."""

    @functools.wraps(method)
    def waiting(tracker: "Tracker", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with tracker._busy:
            return method(tracker, *args, **kwargs)

    return waiting


@dataclass(frozen=True, slots=True)
class TrackResult:
    """Where the target is. For a bundle of batch B > 1, one row per target.

    box: float64 (4,) or (B, 4): x, y, w, h in pixels.
    score: presence at the chosen cell, 0 … 1, float or (B,).
    lost: score below the bundle's threshold, bool or (B,); a report only, the state moves all the same.
    """

    box: NDArray[np.float64]
    score: float | NDArray[np.float64]
    lost: bool | NDArray[np.bool_]


class Tracker:
    """Tracks what `init` was shown, frame by frame. A context manager; `close` lets the engines go.

    `stage_ms` holds the last update's milliseconds: crop (rectangle, pixels), network, box (mapping,
    state).

    An engine on a GPU brings a device loop: the three steps then run there as one launch (`network` is
    all of it but a host frame's crop), and a frame may lie on the GPU already, as any H×W×3 uint8 object
    with DLPack or `__cuda_array_interface__`.
    """

    def __init__(self, bundle: Bundle, pair: Pair, *, color: str = "rgb", choice: str | None = None) -> None:
        """A bundle's graphs, open, which the tracker closes; most callers want `from_bundle`."""
        if color not in ("rgb", "bgr"):
            raise UserError(f"color {color!r}: say rgb, or bgr for OpenCV's frames")
        self._busy = threading.RLock()
        self.bundle = bundle
        self.choice = choice or pair.track.name
        self.stage_ms: dict[str, float] = {}
        self._inputs = {name for _, name in bundle.tensors("inputs")}
        self._state: list[geometry.Box] = []
        self._frame_shape: tuple[int, ...] = ()
        self._pair = pair
        self._loop = pair.loop(bundle, swap=color == "bgr")
        self._closed = False

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path | Bundle | None = None,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        color: str = "rgb",
        options: EngineOptions | None = None,
        device: int | None = None,
    ) -> Self:
        """Open a bundle's two graphs in an engine.

        bundle: its folder, or a packaged one's name (a folder of that name wins); None: the packaged default.
        backend: `auto` (the first that can run `precision` here; it logs which and why) or a name, which
        never falls back. precision: one of the bundle's, or one of OpenVINO's readings:
        `bf16` (of the fp32 graphs), `int8-bf16` (of the int8 graphs).
        threads: None leaves their number to the engine. color: `bgr` takes OpenCV's frames as they are.
        options: all that an engine may be told; `threads` and `device`, the GPU's number, go before its own.
        """
        if not isinstance(bundle, Bundle):
            bundle = open_bundle(bundle)
        options = options or EngineOptions()
        if threads is not None:
            options = replace(options, threads=threads)
        if device is not None:
            options = replace(options, device=device)
        pair, choice = open_pair(bundle, find_precision(precision), options, backend)
        try:
            return cls(bundle, pair, color=color, choice=str(choice))
        except BaseException:
            pair.close()
            raise

    @_one_at_a_time
    def init(self, frame: Frame, boxes: ArrayLike) -> None:
        """Show the target: `frame` H×W×3 uint8, its box x, y, w, h in pixels (floats allowed).

        A bundle of batch B takes B boxes. Raises TrackerError for a frame or box that cannot be tracked.
        """
        if self._closed:
            raise TrackerError("the tracker is closed: open another with Tracker.from_bundle")
        accepted = self._loop.accept(frame)
        given = self._checked_boxes(boxes, accepted.shape[1], accepted.shape[0])
        state = [geometry.start_box(box, self.bundle.state) for box in given]
        side = side_inputs(state, self.bundle.template, self.bundle.target_box_format, self._inputs)
        self._loop.start(accepted, state, side)
        self._state, self._frame_shape = state, accepted.shape

    @_one_at_a_time
    def update(self, frame: Frame) -> TrackResult:
        """Find the target in the next frame, of the same size as at `init`.

        Raises TrackerError: no `init` yet, a frame of another kind or size, or a network whose numbers are
        not finite (the state then stays where it was).
        """
        if not self._state:
            raise TrackerError("update before init: show the target with init(frame, box) first")
        accepted = self._loop.accept(frame)
        if accepted.shape != self._frame_shape:
            raise TrackerError(
                f"the frame is {_size(accepted.shape)}, at init it was {_size(self._frame_shape)}: init again"
            )
        step = self._loop.step(accepted)
        self._state = [(x, y, w, h) for x, y, w, h in step.boxes.tolist()]
        self.stage_ms = {"crop": step.crop_ms, "network": step.network_ms, "box": step.box_ms}
        return self._result(step.scores.tolist())

    @property
    def state(self) -> NDArray[np.float64]:
        """The boxes that the next search crop is made around; setting them keeps the template."""
        if not self._state:
            raise TrackerError("state before init: show the target with init(frame, box) first")
        return self._boxes()

    @state.setter
    def state(self, boxes: ArrayLike) -> None:
        if not self._state:
            raise TrackerError("state before init: show the target with init(frame, box) first")
        self._state = self._checked_boxes(boxes, self._frame_shape[1], self._frame_shape[0])
        self._loop.move(self._state)

    def describe(self) -> dict[str, Any]:
        """The bundle and what its engine says of itself."""
        about = {"bundle": self.bundle.name, "batch": self.bundle.batch, **self._pair.describe()}
        return {**about, "launch": self._loop.launch} if self._loop.on_device else about

    @property
    def on_device(self) -> bool:
        """Whether it runs on a GPU and takes frames that lie there."""
        return self._loop.on_device

    @_one_at_a_time
    def close(self) -> None:
        """Let the engines and the template's memory go."""
        if not self._closed:
            self._closed = True
            self._state = []
            self._loop.close()
            self._pair.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked_boxes(self, boxes: ArrayLike, width: int, height: int) -> list[geometry.Box]:
        try:
            array = np.atleast_2d(np.asarray(boxes, np.float64))
        except (TypeError, ValueError, OverflowError):  # no numbers, rows of different lengths, 10⁴⁰⁰
            raise TrackerError(f"a box is four numbers x,y,w,h in pixels, not {_short(boxes)}") from None
        if array.shape != (self.bundle.batch, 4):
            raise TrackerError(
                f"bundle {self.bundle.name} tracks {self.bundle.batch} target(s) at once: give that many"
                f" boxes x,y,w,h, not an array of shape {np.shape(boxes)}"
            )
        state: list[geometry.Box] = [(x, y, w, h) for x, y, w, h in array.tolist()]
        for box in state:
            text = ",".join(f"{v:g}" for v in box)
            if any(math.isfinite(value) and abs(value) > MAX_COORDINATE for value in box[:2]):
                raise TrackerError(f"the box {text} lies outside any frame: give x,y,w,h in pixels")
            if not (box[2] > 0 and box[3] > 0):
                raise TrackerError(f"the box {text} is empty: width and height must be above zero")
            spec = self.bundle.template
            if not geometry.crop_rectangle(box, spec).touches(width, height, spec.edge):
                raise TrackerError(f"the box {text} lies outside the frame of {width}×{height} pixels")
        return state

    def _boxes(self) -> NDArray[np.float64]:
        boxes = np.array(self._state, np.float64)
        return boxes[0] if self.bundle.batch == 1 else boxes

    def _result(self, scores: list[float]) -> TrackResult:
        threshold = self.bundle.presence_threshold
        if self.bundle.batch == 1:
            return TrackResult(self._boxes(), scores[0], scores[0] < threshold)
        array = np.array(scores, np.float64)
        return TrackResult(self._boxes(), array, array < threshold)


def _short(value: object) -> str:
    return " ".join(ascii(value)[:60].split()) if isinstance(value, str | int) else type(value).__name__


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}" if len(shape) == 3 else str(shape)
