"""The tracker: a frame's path from pixels to box.

    rectangle (geometry) → crop → network (backend) → box (geometry) → state

`init` runs the template graph once on the crop around the given boxes and keeps its memory; `update`
crops around the last state, runs the track graph, and maps the box back to the frame. State is float64,
unrounded.
"""

import functools
import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.bundle.manifest import GRAPHS
from jntrt.runtime.crop import crop
from jntrt.runtime.engines import STORED_AS, Backend, backend_class, choose_backend
from jntrt.runtime.engines.cpu import check_threads
from jntrt.runtime.errors import TrackerError, UserError
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from jntrt.runtime.cuda.frames import DeviceFrame
    from jntrt.runtime.cuda.loop import DeviceLoop

log = logging.getLogger(__name__)

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

    def __init__(self, bundle: Bundle, template: Backend, track: Backend, *, color: str = "rgb") -> None:
        """Two loaded backends of a bundle; most callers want `from_bundle`."""
        if color not in ("rgb", "bgr"):
            raise UserError(f"color {color!r}: say rgb, or bgr for OpenCV's frames")
        self._busy = threading.RLock()
        self.bundle = bundle
        self.choice = track.name
        self.stage_ms: dict[str, float] = {}
        self._template: Backend | None = template
        self._track: Backend | None = track
        self._swap = color == "bgr"
        self._state: list[geometry.Box] = []
        self._frame_shape: tuple[int, ...] = ()
        self._memory: dict[str, Any] = {}
        device_loop = getattr(track, "device_loop", None)
        self._loop: DeviceLoop | None = device_loop and device_loop(template, bundle, swap=self._swap)
        self._takes_box = bundle.takes("template", "target_box")
        self._takes_weights = bundle.takes("track", "template_weights")

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path | Bundle,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        color: str = "rgb",
    ) -> Self:
        """Open a bundle's two graphs in an engine.

        backend: `auto` (the first that can run `precision` here; it logs which and why) or a name, which
        never falls back. precision: one of the bundle's, or one of OpenVINO's readings:
        `bf16` (of the fp32 graphs), `int8-bf16` (of the int8 graphs).
        threads: None leaves their number to the engine. color: `bgr` takes OpenCV's frames as they are.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle)
        check_threads(threads)
        stored = STORED_AS.get(precision, precision)
        if bundle.failed_gate(stored):
            log.warning("bundle %s: %s failed its gate, its boxes are not those of fp32", bundle.name, stored)
        choice = choose_backend(backend, precision)
        engines = [backend_class(choice.name).open(precision, threads) for _ in GRAPHS]
        try:
            for graph, engine in zip(GRAPHS, engines, strict=True):
                engine.load(bundle.graph(graph, stored))
            tracker = cls(bundle, *engines, color=color)
        except BaseException:
            _close(engines)
            raise
        tracker.choice = str(choice)
        return tracker

    @_one_at_a_time
    def init(self, frame: Frame, boxes: ArrayLike) -> None:
        """Show the target: `frame` H×W×3 uint8, its box x, y, w, h in pixels (floats allowed).

        A bundle of batch B takes B boxes. Raises TrackerError for a frame or box that cannot be tracked.
        """
        if self._template is None:
            raise TrackerError("the tracker is closed: open another with Tracker.from_bundle")
        accepted = self._accept(frame)
        state = self._checked_boxes(boxes, accepted.shape[1], accepted.shape[0])
        size, factor = self.bundle.template.size, self.bundle.template.factor
        feeds: dict[str, Any] = {}
        if self._takes_box:
            box_format = self.bundle.recipe.get("target_box_format", "cxcywh")
            targets = [geometry.target_box_in_crop(box, factor, size, box_format) for box in state]
            feeds["target_box"] = np.array(targets, np.float32)
        weights: dict[str, Any] = {}
        if self._takes_weights:
            rows = [geometry.template_weights(box, factor, size) for box in state]
            weights["template_weights"] = np.stack(rows)
        if self._loop is not None:
            self._loop.start(accepted, state, {**feeds, **weights})
        else:
            rectangles = [geometry.crop_rectangle(box, factor) for box in state]
            feeds["template"] = self._crops(frame, rectangles, size)
            self._memory = {**self._template.run(feeds), **weights}
        self._state, self._frame_shape = state, accepted.shape

    @_one_at_a_time
    def update(self, frame: Frame) -> TrackResult:
        """Find the target in the next frame, of the same size as at `init`.

        Raises TrackerError: no `init` yet, a frame of another kind or size, or a network whose numbers are
        not finite (the state then stays where it was).
        """
        if self._track is None or not self._state:
            raise TrackerError("update before init: show the target with init(frame, box) first")
        accepted = self._accept(frame)
        if accepted.shape != self._frame_shape:
            raise TrackerError(
                f"the frame is {_size(accepted.shape)}, at init it was {_size(self._frame_shape)}: init again"
            )
        if self._loop is not None:
            return self._update_on_device(accepted)
        start = perf_counter()
        spec = self.bundle.search
        rectangles = [geometry.crop_rectangle(box, spec.factor) for box in self._state]
        search = self._crops(frame, rectangles, spec.size)
        cropped = perf_counter()
        outputs = self._track.run({"search": search, **self._memory})
        found = perf_counter()
        predictions, scores = _predictions(outputs, self.bundle.batch)
        height, width = frame.shape[:2]
        self._state = [
            geometry.box_to_frame(prediction, box, rectangle.side, width, height)
            for prediction, box, rectangle in zip(predictions, self._state, rectangles, strict=True)
        ]
        result = self._result(scores)
        end = perf_counter()
        self.stage_ms = {
            "crop": (cropped - start) * 1e3,
            "network": (found - cropped) * 1e3,
            "box": (end - found) * 1e3,
        }
        return result

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
        if self._loop is not None:
            self._loop.move(self._state)

    def describe(self) -> dict[str, Any]:
        """The bundle and what its engine says of itself."""
        engine = self._track.describe() if self._track is not None else {}
        if self._loop is not None:
            engine["launch"] = self._loop.launch
        return {"bundle": self.bundle.name, "batch": self.bundle.batch, **engine}

    @property
    def on_device(self) -> bool:
        """Whether it runs on a GPU and takes frames that lie there."""
        return self._loop is not None

    @_one_at_a_time
    def close(self) -> None:
        """Let the engines and the template's memory go."""
        if self._loop is not None:
            self._loop.close()
        _close((self._template, self._track))
        self._template = self._track = self._loop = None
        self._memory, self._state = {}, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self, frame: Any) -> "Frame | DeviceFrame":
        """The frame as the engine takes it: an array, or where it lies on the GPU. Raises TrackerError."""
        found: DeviceFrame | None = None if self._loop is None else self._loop.on_device(frame)
        if found is not None:
            return found
        _check_frame(frame)
        array: Frame = frame
        return array

    def _update_on_device(self, frame: "Frame | DeviceFrame") -> TrackResult:
        assert self._loop is not None
        step = self._loop.step(frame)
        self._state = [(x, y, w, h) for x, y, w, h in step.boxes.tolist()]
        self.stage_ms = {"crop": step.crop_ms, "network": step.network_ms, "box": 0.0}
        return self._result(step.scores.tolist())

    def _crops(self, frame: Frame, rectangles: Sequence[geometry.CropRectangle], size: int) -> Frame:
        crops = [crop(frame, rectangle, size, swap=self._swap) for rectangle in rectangles]
        return crops[0][None] if len(crops) == 1 else np.stack(crops)

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
            if not geometry.crop_rectangle(box, self.bundle.template.factor).touches(width, height):
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


def _predictions(outputs: dict[str, Any], batch: int) -> tuple[list[list[float]], list[float]]:
    """The network's boxes (cx, cy, w, h in units of the crop) and scores, all finite, or TrackerError."""
    shapes = {name: value.shape for name, value in outputs.items()}
    if shapes.get("box") != (batch, 4) or shapes.get("score") != (batch,):
        raise TrackerError(
            f"the track graph gives {shapes}, not box ({batch}, 4) and score ({batch},): it is no graph of"
            " this bundle, export the checkpoint again"
        )
    boxes, scores = outputs["box"].tolist(), outputs["score"].tolist()
    for prediction, value in zip(boxes, scores, strict=True):
        if not all(map(math.isfinite, (*prediction, value))):
            raise TrackerError(
                f"the network's output is not finite (box {prediction}, score {value}): the bundle or its"
                " precision is broken, try fp32"
            )
    return boxes, scores


def _check_frame(frame: Frame) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        kind = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise TrackerError(f"a frame is an array H×W×3 of uint8, not {kind}")
    if 0 in frame.shape:
        raise TrackerError("the frame has no pixels")


def _close(engines: Iterable[Backend | None]) -> None:
    for engine in engines:
        close = getattr(engine, "close", None)  # engines on a GPU give their memory back at once
        if close is not None:
            close()


def _short(value: object) -> str:
    return " ".join(ascii(value)[:60].split()) if isinstance(value, str | int) else type(value).__name__


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}" if len(shape) == 3 else str(shape)
