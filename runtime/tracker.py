"""The tracker: a frame's path from pixels to box.

    rectangle (geometry) → crop → network (backend) → box (geometry) → state

`init` runs the template graph once on the crop around the given boxes and keeps its memory; `update`
crops around the last state, runs the track graph, and maps the box back to the frame. State is float64,
unrounded.
"""

import functools
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle, open_bundle
from jntrt.runtime.engines.auto import open_pair
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import AUTO
from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.given_boxes import checked_boxes, rows_of
from jntrt.runtime.inputs import side_inputs
from jntrt.runtime.loops import Step
from jntrt.runtime.redetect import Redetection, Search
from jntrt.runtime.result import TrackResult

NOBODY = (math.nan,) * 4  # the box of an idle row

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


class Tracker:
    """Tracks what `init` was shown, frame by frame. A context manager; `close` lets the engines go.

    `stage_ms` holds the last update's milliseconds: crop (rectangle, pixels), network, box (mapping,
    state), and with `redetect` also search.

    An engine on a GPU brings a device loop: the three steps then run there as one launch (`network` is
    all of it but a host frame's crop), and a frame may lie on the GPU already, as any H×W×3 uint8 object
    with DLPack or `__cuda_array_interface__`.
    """

    def __init__(
        self,
        bundle: Bundle,
        pair: Pair,
        *,
        color: str = "rgb",
        choice: str | None = None,
        precision: str = "fp32",
        redetect: Redetection | None = None,
    ) -> None:
        """A bundle's graphs, open, which the tracker closes; most callers want `from_bundle`.

        choice, precision: what reports call the engine and what it computes in.
        """
        if color not in ("rgb", "bgr"):
            raise UserError(f"color {color!r}: say rgb, or bgr for OpenCV's frames")
        self._busy = threading.RLock()
        self.bundle = bundle
        self.choice, self.precision = choice or pair.track.name, precision
        self.stage_ms: dict[str, float] = {}
        self._inputs = {name for _, name in bundle.tensors("inputs")}
        self._state: NDArray[np.float64] | None = None  # B×4
        self._frame_shape: tuple[int, ...] = ()
        self._pair, self._color = pair, color
        self._loop = pair.loop(bundle, swap=color == "bgr")
        self._search = Search(self._loop, bundle, redetect) if redetect else None
        self._closed = False
        self._submitted: Any = None  # the frame that is under way

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path | Bundle | None = None,
        backend: str = "auto",
        precision: str = AUTO,
        threads: int | None = None,
        color: str = "rgb",
        options: EngineOptions | None = None,
        device: int | None = None,
        redetect: bool | Redetection = False,
    ) -> Self:
        """Open a bundle's two graphs in an engine.

        bundle: its folder, or a packaged one's name (a folder of that name wins); None: the packaged default.
        backend: `auto` (the first that can run `precision` here; it logs which and why) or a name, which
        never falls back. precision: `auto` (fp16 on a GPU where it is safe, else fp32; `precision` says which
        and why), one of the bundle's, or a reading of its fp32 or int8 graphs: `bf16` and `int8-bf16`
        (OpenVINO's), `tf32` (on a GPU).
        threads: None leaves their number to the engine. color: `bgr` takes OpenCV's frames as they are.
        options: all that an engine may be told; `threads` and `device`, the GPU's number, go before its own.
        redetect: search for a lost target, in the time that `Redetection` gives (bundles of batch 1).
        """
        if not isinstance(bundle, Bundle):
            bundle = open_bundle(bundle)
        options = options or EngineOptions()
        if threads is not None:
            options = replace(options, threads=threads)
        if device is not None:
            options = replace(options, device=device)
        pair, taken = open_pair(bundle, precision, options, backend)
        try:
            return cls(
                bundle,
                pair,
                color=color,
                choice=str(taken.backend),
                precision=taken.precision_text,
                redetect=Redetection() if redetect is True else redetect or None,
            )
        except BaseException:
            pair.close()
            raise

    @_one_at_a_time
    def another(self, color: str | None = None, redetect: Redetection | None = None) -> Self:
        """Another tracker of the bundle in the same engine, for other targets or another video.

        color, redetect: None takes this one's.

        The weights are there once; targets, state, context, stream and memory are its own, so that both may
        run at the same time, in threads. Each is closed by itself.
        """
        if self._closed:
            raise TrackerError("the tracker is closed: open another with Tracker.from_bundle")
        pair = self._pair.share()
        try:
            return type(self)(
                self.bundle,
                pair,
                color=color or self._color,
                choice=self.choice,
                precision=self.precision,
                redetect=redetect or (self._search.options if self._search else None),
            )
        except BaseException:
            pair.close()
            raise

    def frame_buffer(self, height: int, width: int) -> Frame:
        """Memory for a frame, height×width×3 uint8, to decode into and to give to `init` and `update`.

        On a GPU it is page-locked and the crop reads it in place: no copy on a Jetson, elsewhere just the
        pixels of the crop cross the bus. It may be filled again once `update` or `result` has returned, and
        stays until nobody holds the array. Take two to fill one while the other is tracked.
        """
        if min(height, width) < 1 or max(height, width) > geometry.MAX_SIDE:
            raise TrackerError(f"a frame has sides of 1 to {geometry.MAX_SIDE} pixels, not {width}×{height}")
        return self._loop.frame_buffer(height, width)

    @_one_at_a_time
    def init(self, frame: Frame, boxes: ArrayLike) -> None:
        """Show the target: `frame` H×W×3 uint8, its box x, y, w, h in pixels (floats allowed).

        A bundle of batch B takes up to B boxes; what is left over are idle rows, for `add`. Raises
        TrackerError for a frame or box that cannot be tracked.
        """
        if self._closed:
            raise TrackerError("the tracker is closed: open another with Tracker.from_bundle")
        self._check_idle("init")
        accepted = self._loop.accept(frame)
        given = checked_boxes(boxes, self.bundle, accepted.shape[1], accepted.shape[0])
        state = [geometry.start_box(box, self.bundle.state) for box in given]
        state += [NOBODY] * (self.bundle.batch - len(state))
        self._loop.start(accepted, state, self._side(state))
        self._begin_search(accepted, state[0])
        self._state, self._frame_shape = np.array(state, np.float64), accepted.shape

    @_one_at_a_time
    def add(self, frame: Frame, box: ArrayLike) -> int:
        """Show another target, in an idle row of the batch, while the others go on; the row.

        `frame`: of the size at `init`, the one that was tracked last. Raises TrackerError where no row is
        idle, and as `init`.
        """
        accepted, state = self._next(frame, "add")
        (given,) = checked_boxes(box, self.bundle, accepted.shape[1], accepted.shape[0], most=1)
        idle = np.flatnonzero(np.isnan(state[:, 0]))
        if not len(idle):
            raise TrackerError(
                f"bundle {self.bundle.name} tracks {self.bundle.batch} target(s) at once, and all are taken:"
                " remove one, or export with a larger --batch"
            )
        target, begun = int(idle[0]), geometry.start_box(given, self.bundle.state)
        self._loop.join(accepted, target, begun, self._side([begun]))
        self._begin_search(accepted, begun)
        state[target] = begun
        self._state = state
        return target

    @_one_at_a_time
    def remove(self, target: int) -> None:
        """Let the target in row `target` go; its row is idle from now on. Raises TrackerError: none there."""
        if self._state is None or target not in np.flatnonzero(self.active):
            raise TrackerError(f"there is no target {target!r:.20}: active ones are those of `active`")
        self._check_idle("remove")
        state = self._state.copy()
        state[target] = np.nan
        self._loop.move(state.tolist())
        self._state = state

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which rows of the batch have a target: (B,)."""
        if self._state is None:
            return np.zeros(self.bundle.batch, np.bool_)
        rows: NDArray[np.bool_] = ~np.isnan(self._state[:, 0])
        return rows

    @_one_at_a_time
    def update(self, frame: Frame) -> TrackResult:
        """Find the target in the next frame, of the same size as at `init`.

        Raises TrackerError: no `init` yet, a frame of another kind or size, or a network whose numbers are
        not finite (the state then stays where it was).
        """
        accepted, _ = self._next(frame, "update")
        return self._take(accepted, self._loop.step(accepted))

    @_one_at_a_time
    def submit(self, frame: Frame) -> None:
        """Start `update` and return at once; `result` waits for what it gives.

        So one thread drives several trackers: a submit to each, then a result of each. The frame is not to be
        changed in between, and no other call is taken. Raises TrackerError as `update`.
        """
        accepted, _ = self._next(frame, "submit")
        self._loop.begin(accepted)
        self._submitted = accepted

    @_one_at_a_time
    def result(self) -> TrackResult:
        """What the frame that was submitted gave. Raises TrackerError: none was, or as `update`."""
        if self._submitted is None:
            raise TrackerError("result before submit: give a frame with submit(frame) first")
        frame, self._submitted = self._submitted, None
        return self._take(frame, self._loop.finish())

    def _take(self, accepted: Any, step: Step) -> TrackResult:
        redetected = False
        self.stage_ms = {"crop": step.crop_ms, "network": step.network_ms, "box": step.box_ms}
        if self._search and self.active.any():
            step, redetected = self._search.follow(accepted, step)
            self.stage_ms["search"] = self._search.milliseconds
        self._state = step.boxes
        return self._result(step.boxes.copy(), step.scores, redetected)

    @property
    def state(self) -> NDArray[np.float64]:
        """The boxes that the next search crop is made around; setting them keeps the template.

        Of a batch with idle rows: all rows, those NaN; it is set with all of them, or the active ones alone.
        """
        if self._state is None:
            raise TrackerError("state before init: show the target with init(frame, box) first")
        return self._state[0].copy() if self.bundle.batch == 1 else self._state.copy()

    @state.setter
    def state(self, boxes: ArrayLike) -> None:
        if self._state is None:
            raise TrackerError("state before init: show the target with init(frame, box) first")
        self._check_idle("state")
        active, rows = self.active, rows_of(boxes)
        if rows.shape == self._state.shape:
            rows = rows[active]
        count, state = int(active.sum()), self._state.copy()
        height, width = self._frame_shape[:2]
        state[active] = checked_boxes(rows, self.bundle, width, height, least=count, most=count)
        self._state = state
        self._loop.move(state.tolist())
        if self._search and count:
            x, y, w, h = state[0].tolist()
            self._search.trust((x, y, w, h))

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
            self._state = self._submitted = None
            self._loop.close()
            self._pair.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, frame: Frame, what: str) -> tuple[Any, NDArray[np.float64]]:
        """A frame as the loop takes it, of the size at `init`, and the state, to change. TrackerError."""
        if self._state is None:
            raise TrackerError(f"{what} before init: show the target with init(frame, box) first")
        self._check_idle(what)
        accepted = self._loop.accept(frame)
        if accepted.shape != self._frame_shape:
            raise TrackerError(
                f"the frame is {_size(accepted.shape)}, at init it was {_size(self._frame_shape)}: init again"
            )
        return accepted, self._state.copy()

    def _check_idle(self, what: str) -> None:
        if self._submitted is not None:
            raise TrackerError(f"{what} while a frame is under way: take its result() first")

    def _begin_search(self, frame: Any, box: geometry.Box) -> None:
        if self._search:
            if not isinstance(frame, np.ndarray):
                raise TrackerError("redetect compares pixels on the host: give frames as NumPy arrays")
            self._search.begin(frame, box)

    def _side(self, state: geometry.Boxes) -> Mapping[str, NDArray[Any]]:
        return side_inputs(state, self.bundle.template, self.bundle.target_box_format, self._inputs)

    def _result(
        self, boxes: NDArray[np.float64], scores: NDArray[np.float64], redetected: bool
    ) -> TrackResult:
        threshold = self.bundle.presence_threshold
        if self.bundle.batch == 1:
            score = float(scores[0])
            searching = self._search is not None and self._search.searching
            return TrackResult(boxes[0], score, score < threshold or searching, redetected)
        return TrackResult(boxes, scores, scores < threshold, np.zeros(len(boxes), np.bool_))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}" if len(shape) == 3 else str(shape)
