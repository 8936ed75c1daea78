"""The tracker's loop, wherever it runs: state → crop → network → box → state.

`HostLoop` is the one on the CPU; that on a GPU is in cuda/loop.py.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.crop import BLACK, border_colour
from jntrt.runtime.errors import TrackerError
from jntrt.runtime.inputs import crops, cut, rectangles_of, state_inputs

Image = NDArray[np.uint8]


class Step(NamedTuple):
    """What one frame gave: boxes B×4 float64 (x, y, w, h in pixels), scores (B,), and milliseconds."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    crop_ms: float  # on the host; 0 where the GPU crops, which then is part of network_ms
    network_ms: float
    box_ms: float = 0.0  # on the host; 0 where the GPU maps the box


class Runs(Protocol):
    """A graph that the host calls."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name. Arrays in and out; memory tensors may be the engine's own objects."""


class Loop(Protocol):
    """Tracks a bundle's targets through frames of one size. `start` shows them, `step` follows them."""

    on_device: bool  # whether it takes frames that lie on the GPU
    launch: str  # how a frame is launched, for reports

    def accept(self, frame: Any) -> Any:
        """The frame as the loop takes it, with a `shape`. Raises TrackerError for what is no frame."""

    def frame_buffer(self, height: int, width: int) -> Image:
        """Memory for a frame, H×W×3, that the loop reads without a copy."""

    def start(self, frame: Any, boxes: geometry.Boxes, side: Mapping[str, NDArray[Any]]) -> None:
        """Runs the template graph on the crops around `boxes` (B of x, y, w, h); they become the state.

        A box of NaN is an idle row: nothing is cropped for it, and what the graphs say of it is not read.
        `side`: the other inputs, of either graph, that depend on the target.
        """

    def join(self, frame: Any, target: int, box: Sequence[float], side: Mapping[str, NDArray[Any]]) -> None:
        """Puts another target into the row `target`; the others keep template and state.

        Its crops have the border of the others', of the frame at `start`. `side`: of this row alone, 1×….
        """

    def step(self, frame: Any) -> Step:
        """Follows the targets into the next frame.

        Raises TrackerError when the output is not finite; the state then stays where it was.
        """

    def begin(self, frame: Any) -> None:
        """Starts `step` and returns at once; `finish` comes before any other call."""

    def finish(self) -> Step:
        """What the step that `begin` started gave. Raises as `step` does."""

    def move(self, boxes: geometry.Boxes) -> None:
        """Puts the state at `boxes` and keeps the template; a row whose box is NaN is idle from now on."""

    def close(self) -> None:
        """Lets go of all that is the loop's own; the networks belong to their owner."""


class HostLoop:
    """The loop on the CPU."""

    on_device = False
    launch = "host"

    def __init__(self, template: Runs, track: Runs, bundle: Bundle, *, swap: bool) -> None:
        """`swap`: frames are BGR."""
        self._template, self._track, self._bundle, self._swap = template, track, bundle, swap
        self._boxes: list[geometry.Box] = []
        self._shown: dict[str, NDArray[Any]] = {}  # what the template graph was given, and the other inputs
        self._memory: dict[str, Any] = {}
        self._borders = (BLACK, BLACK)  # of template and search crops
        self._helper: ThreadPoolExecutor | None = None  # a thread, once somebody does not wait
        self._begun: Future[Step] | None = None

    def accept(self, frame: Any) -> Image:
        """The frame itself, when it is H×W×3 uint8. Raises TrackerError."""
        return checked_frame(frame)

    def frame_buffer(self, height: int, width: int) -> Image:
        """Any memory will do."""
        return np.empty((height, width, 3), np.uint8)

    def start(self, frame: Image, boxes: geometry.Boxes, side: Mapping[str, NDArray[Any]]) -> None:
        """Runs the template graph on the crops around `boxes` (B of x, y, w, h); they become the state."""
        bundle = self._bundle
        self._borders = (border_colour(frame, bundle.template), border_colour(frame, bundle.search))
        template = crops(frame, boxes, bundle.template, border=self._borders[0], swap=self._swap)
        self._remember({"template": template, **side})
        self.move(boxes)

    def join(self, frame: Image, target: int, box: Sequence[float], side: Mapping[str, NDArray[Any]]) -> None:
        """Puts another target into the row `target`; the others keep template and state."""
        template = crops(frame, [box], self._bundle.template, border=self._borders[0], swap=self._swap)
        shown = {name: value.copy() for name, value in self._shown.items()}
        for name, value in {"template": template, **side}.items():
            shown[name][target] = value[0]
        self._remember(shown)
        x, y, w, h = box
        self._boxes[target] = (x, y, w, h)

    def _remember(self, shown: Mapping[str, NDArray[Any]]) -> None:
        """Runs the template graph on what it takes of `shown`; the rest goes to the track graph as it is.

        A memory tensor is nobody's to look into: where one target is new, the whole batch runs again.
        """
        given = {name: value for name, value in shown.items() if self._bundle.takes("template", name)}
        kept = {name: value for name, value in shown.items() if name not in given}
        self._memory = {**self._template.run({**given}), **kept}
        self._shown = dict(shown)

    def move(self, boxes: geometry.Boxes) -> None:
        """Puts the state at `boxes` and keeps the template."""
        self._boxes = [(x, y, w, h) for x, y, w, h in boxes]

    def step(self, frame: Image) -> Step:
        """Follows the targets into the next frame. Raises TrackerError when the output is not finite."""
        bundle, spec = self._bundle, self._bundle.search
        start = perf_counter()
        rectangles = rectangles_of(self._boxes, spec)
        search = cut(frame, rectangles, spec, border=self._borders[1], swap=self._swap)
        told = state_inputs(bundle.state_inputs, self._boxes, spec)
        cropped = perf_counter()
        outputs = self._track.run({"search": search, **told, **self._memory})
        found = perf_counter()
        active = [rectangle is not None for rectangle in rectangles]
        predictions, scores = _predictions(outputs, active)
        height, width = frame.shape[:2]
        self._boxes = [
            box
            if rectangle is None
            else geometry.box_to_frame(
                prediction, box, geometry.crop_span(box, spec, rectangle), width, height, bundle.state
            )
            for prediction, box, rectangle in zip(predictions, self._boxes, rectangles, strict=True)
        ]
        boxes, presence = np.array(self._boxes, np.float64), np.array(scores, np.float64)
        end = perf_counter()
        return Step(boxes, presence, (cropped - start) * 1e3, (found - cropped) * 1e3, (end - found) * 1e3)

    def begin(self, frame: Image) -> None:
        """Starts `step` in a thread of the loop's own: the engine runs without Python's lock."""
        self._helper = self._helper or ThreadPoolExecutor(1, "jntrt-step")
        self._begun = self._helper.submit(self.step, frame)

    def finish(self) -> Step:
        """What the step that `begin` started gave. Raises as `step` does."""
        assert self._begun is not None
        begun, self._begun = self._begun, None
        return begun.result()

    def close(self) -> None:
        """Lets the template's memory go, and the thread, once its step is done."""
        if self._helper is not None:
            self._helper.shutdown()
            self._helper = None
        self._memory, self._shown, self._boxes = {}, {}, []


def checked_frame(frame: Any) -> Image:
    """`frame` when it is an array H×W×3 of uint8 with pixels in it. Raises TrackerError."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        kind = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise TrackerError(f"a frame is an array H×W×3 of uint8, not {kind}")
    if 0 in frame.shape:
        raise TrackerError("the frame has no pixels")
    return frame


def _predictions(
    outputs: Mapping[str, Any], active: Sequence[bool]
) -> tuple[Sequence[list[float]], list[float]]:
    """The network's boxes (cx, cy, w, h in units of the crop) and scores, all finite, or TrackerError.

    What it says of rows that are not active is not looked at; their score is NaN.
    """
    batch = len(active)
    shapes = {name: value.shape for name, value in outputs.items()}
    if shapes.get("box") != (batch, 4) or shapes.get("score") != (batch,):
        raise TrackerError(
            f"the track graph gives {shapes}, not box ({batch}, 4) and score ({batch},): it is no graph of"
            " this bundle, export the checkpoint again"
        )
    boxes, scores = outputs["box"].tolist(), outputs["score"].tolist()
    scores = [score if lives else math.nan for score, lives in zip(scores, active, strict=True)]
    for prediction, value, lives in zip(boxes, scores, active, strict=True):
        if lives and not all(map(math.isfinite, (*prediction, value))):
            raise TrackerError(
                f"the network's output is not finite (box {prediction}, score {value}): the bundle or its"
                " precision is broken, try fp32"
            )
    return boxes, scores
