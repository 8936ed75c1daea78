"""The device loop: one frame as one launch.

    description up → crop kernel, or crop up → network → box kernel → five floats down

All of it lies at fixed addresses and is captured once as a CUDA graph; a frame then costs one launch and
one wait. A frame on the GPU is cropped there; a host frame is cropped on the host and only the crop
travels (200 kB where a 1080p frame has 6 MB). The state never leaves the GPU in between: the box kernel
writes the square that the next crop is cut from.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.bundle.conventions import Border, CropSpec, StateInput
from jntrt.runtime.crop import BLACK, Colour, border_colour, crop
from jntrt.runtime.cuda.driver import (
    Buffer,
    CudaError,
    Device,
    Event,
    Graph,
    PinnedBuffer,
    Stream,
    in_context,
)
from jntrt.runtime.cuda.frames import DeviceFrame, device_frame
from jntrt.runtime.cuda.kernels import (
    FRAME,
    LANE,
    RESULT,
    RULE,
    BoxAddresses,
    aim,
    rule_of,
    shared_kernels,
    sizes,
)
from jntrt.runtime.cuda.upload import frame_buffer, reached
from jntrt.runtime.errors import TrackerError, UserError
from jntrt.runtime.geometry import Boxes, CropRectangle, hidden_lines
from jntrt.runtime.loops import Step, checked_frame

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor on the GPU."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class DeviceNetwork(Protocol):
    """A graph of a bundle on the GPU, with its tensors at fixed addresses."""

    @property
    def tensors(self) -> Mapping[str, DeviceTensor]:
        """Inputs and outputs by name."""

    def relocate(self, name: str, tensor: DeviceTensor) -> None:
        """Makes `name` live in that memory from now on."""

    def enqueue(self, stream: Stream) -> None:
        """Runs the graph on what lies in its inputs."""

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        """Why its work cannot be part of a CUDA graph, or None."""

    @property
    def own_stream(self) -> Stream | None:
        """The stream that its work is bound to, which the loop then takes; None where it goes on any."""


class DeviceLoop:
    """Tracks `batch` objects through frames of one size. `start` shows the targets, `step` follows them."""

    on_device = True

    def __init__(
        self,
        device: Device,
        template: DeviceNetwork,
        track: DeviceNetwork,
        bundle: Bundle,
        *,
        swap: bool,
        graph: bool = True,
    ) -> None:
        """`swap`: frames are BGR. `graph` False: no capture."""
        self.device = device
        self.template, self.track = template, track
        self._bundle = bundle
        self._swap = swap
        self.batch = track.tensors["search"].shape[0]
        self.kernels = shared_kernels(device)
        with device.current():
            self._allocate(graph)

    def _allocate(self, graph: bool) -> None:
        device, bundle, track = self.device, self._bundle, self.track
        self.stream = track.own_stream or Stream(device)
        self._producer = Event(device)
        # Host side, page-locked: what goes up (one description, the crops) and what comes down.
        self._up = PinnedBuffer(device, FRAME.itemsize)
        self._frame_up = self._up.view(FRAME, (1,))
        search = track.tensors["search"]
        self._crops_up = PinnedBuffer(device, search.nbytes)
        self._crops = self._crops_up.view(np.uint8, search.shape)
        self._results_down = PinnedBuffer(device, self.batch * RESULT.itemsize)
        self._results = self._results_down.view(RESULT, (self.batch,))
        # Device side.
        self._frame = Buffer(device, FRAME.itemsize)
        self._rule = Buffer(device, RULE.itemsize)
        self._lanes = Buffer(device, self.batch * LANE.itemsize)
        self._sizes = self._state_input(StateInput.SIZE)
        self._graphs: dict[bool, Graph | None] = {}
        self._wants_graph = graph
        self._begun = (0.0, 0.0)  # when the step began, and when its crop was there
        self._held: Any = None  # the frame of a step that is under way
        self.launch = "not yet"  # "graph", or "stream" and why
        self._boxes: NDArray[np.float64] = np.zeros((0, 4))
        self._borders = (BLACK, BLACK)  # of template and search crops
        self._upload(rule_of(bundle.search, bundle.state), self._rule.pointer)
        self._join()

    def _join(self) -> None:
        """Lets the template graph write its memory straight into the track graph's inputs."""
        for name in self.template.tensors:
            if name in self.track.tensors:
                self.template.relocate(name, self.track.tensors[name])

    def _state_input(self, kind: StateInput) -> int:
        """Where the track graph wants that of the state, B×2 float32; 0 where it does not ask."""
        for name, rule in self._bundle.state_inputs.items():
            if rule is kind:
                tensor = self.track.tensors[name]
                if tensor.shape != (self.batch, 2) or tensor.dtype != np.float32:
                    raise UserError(
                        f"state input {name} is {tensor.dtype} {tensor.shape}, not float32 {(self.batch, 2)}:"
                        " export the checkpoint again"
                    )
                return tensor.pointer
        return 0

    @in_context
    def accept(self, frame: Any) -> DeviceFrame | NDArray[np.uint8]:
        """The frame where it lies on the GPU, or the host array that it is. Raises TrackerError."""
        found = device_frame(frame, self.stream.handle, self.device)
        return checked_frame(frame) if found is None else found

    def frame_buffer(self, height: int, width: int) -> NDArray[np.uint8]:
        """Page-locked memory for a frame, which the crop kernel reads in place."""
        return frame_buffer(self.device, height, width)

    def _lying(self, frame: DeviceFrame | NDArray[np.uint8]) -> DeviceFrame | NDArray[np.uint8]:
        """The frame as the GPU sees it, where it reaches it."""
        if isinstance(frame, DeviceFrame):
            return frame
        return reached(frame, self.device) or frame

    @in_context
    def start(
        self,
        frame: DeviceFrame | NDArray[np.uint8],
        boxes: Boxes,
        side: Mapping[str, NDArray[Any]],
    ) -> None:
        """Runs the template graph on the crops around `boxes` (B of x, y, w, h); they become the state.

        `side`: the other inputs, of either graph, that depend on the target.
        """
        frame = self._lying(frame)
        self._borders = self._borders_of(frame)
        self._show(frame, aim(np.array(boxes, np.float64), self._bundle.template), side)
        self.move(boxes)

    @in_context
    def join(
        self,
        frame: DeviceFrame | NDArray[np.uint8],
        target: int,
        box: Sequence[float],
        side: Mapping[str, NDArray[Any]],
    ) -> None:
        """Puts another target into the row `target`; the others keep template and state."""
        boxes = self._boxes.copy()
        boxes[target] = box
        lanes = aim(boxes[target : target + 1], self._bundle.template)
        self._show(self._lying(frame), lanes, side, target)
        self.move(boxes.tolist())

    def _show(
        self,
        frame: DeviceFrame | NDArray[np.uint8],
        lanes: NDArray[Any],
        side: Mapping[str, NDArray[Any]],
        first: int = 0,
    ) -> None:
        """Runs the template graph with the targets of `lanes` in its rows from `first` on.

        The other rows of its inputs are still what they were: nothing else writes there.
        """
        spec, count = self._bundle.template, len(lanes)
        template = self.template.tensors["template"]
        row = template.pointer + first * (template.nbytes // self.batch)
        if isinstance(frame, DeviceFrame):
            self._wait_for(frame)
            self._describe(frame, spec, self._borders[0])
            self._upload(lanes, self._lanes.pointer)
            self._copy_description()
            self.kernels.crop(
                self.stream, self._frame.pointer, self._lanes.pointer, count, row, spec.size, swap=self._swap
            )
        else:
            # Its size is the run's: what the box kernel reads of later host frames as well.
            self._frame_up[0] = (0, frame.shape[1], frame.shape[0], 0, 0, 0)
            self._copy_description()
            crops = np.empty((count, *template.shape[1:]), np.uint8)
            self._crop_into(crops, frame, lanes, spec, self._borders[0])
            self._upload(crops, row)
        for name, value in side.items():
            owner = self.template if name in self.template.tensors else self.track
            tensor = owner.tensors[name]
            self._upload(value, tensor.pointer + first * (tensor.nbytes // self.batch))
        self.template.enqueue(self.stream)
        self.stream.synchronize()

    @in_context
    def move(self, boxes: Boxes) -> None:
        """Puts the state at `boxes` (B of x, y, w, h) and keeps the template."""
        self._boxes = np.array(boxes, np.float64)
        self._upload(aim(self._boxes, self._bundle.search), self._lanes.pointer)
        if self._sizes:
            self._upload(sizes(self._boxes, self._bundle.search), self._sizes)

    @in_context
    def step(self, frame: DeviceFrame | NDArray[np.uint8]) -> Step:
        """Follows the targets into the next frame. Raises TrackerError when the output is not finite."""
        self.begin(frame)
        return self.finish()

    @in_context
    def begin(self, frame: DeviceFrame | NDArray[np.uint8]) -> None:
        """Puts the step's work into the stream and returns; the frame is held until `finish`."""
        begin = perf_counter()
        frame = self._lying(frame)
        on_device = isinstance(frame, DeviceFrame)
        spec = self._bundle.search
        if isinstance(frame, DeviceFrame):
            self._wait_for(frame)
            self._describe(frame, spec, self._borders[1])
        else:
            self._crop_into(self._crops, frame, aim(self._boxes, spec), spec, self._borders[1])
        cropped = perf_counter()
        self._launch(on_device)
        self._begun = (begin, begin if on_device else cropped)
        self._held = frame

    @in_context
    def finish(self) -> Step:
        """What the step that `begin` started gave. Raises as `step` does."""
        begin, cropped = self._begun
        self.stream.synchronize()
        self._held = None
        end = perf_counter()
        active = ~np.isnan(self._boxes[:, 0])
        if self._results["status"][active].any():
            self.move(self._boxes.tolist())  # of several targets, those with finite numbers have moved
            raise TrackerError(
                f"the network's output is not finite (score {self._results['score'].tolist()}): the bundle or"
                " its precision is broken, try fp32"
            )
        self._boxes = self._results["box"].copy()
        return Step(
            boxes=self._boxes.copy(),
            scores=np.where(active, self._results["score"].astype(np.float64), np.nan),
            crop_ms=(cropped - begin) * 1e3,
            network_ms=(end - cropped) * 1e3,
        )

    def _launch(self, on_device: bool) -> None:
        if on_device not in self._graphs:
            # The first run is outside capture: engines allocate and compile in it.
            self._enqueue(on_device)
            self.stream.synchronize()
            self._graphs[on_device] = self._capture(on_device)
            return
        graph = self._graphs[on_device]
        if graph is None:
            self._enqueue(on_device)
        else:
            graph.launch(self.stream)

    def _capture(self, on_device: bool) -> Graph | None:
        obstacle = None if self._wants_graph else "not asked for"
        obstacle = obstacle or self.track.obstacle_to_capture(self.stream)
        if obstacle is None:
            try:
                graph = self.stream.capture(lambda: self._enqueue(on_device))
            except CudaError as error:
                obstacle = str(error)
                log.warning("no CUDA graph (%s): each frame is enqueued piece by piece", obstacle)
            else:
                self.launch = "graph"
                return graph
        self.launch = f"stream ({obstacle})"
        return None

    def _enqueue(self, on_device: bool) -> None:
        """One frame's work, in order; what a graph captures."""
        search = self.track.tensors["search"]
        if on_device:
            self._copy_description()
            self.kernels.crop(
                self.stream, self._frame.pointer, self._lanes.pointer, self.batch, search.pointer,
                self._bundle.search.size, swap=self._swap,
            )  # fmt: skip
        else:
            self.stream.copy(search.pointer, self._crops_up.pointer, search.nbytes)
        self.track.enqueue(self.stream)
        addresses = BoxAddresses(
            frame=self._frame.pointer,
            rule=self._rule.pointer,
            boxes=self.track.tensors["box"].pointer,
            scores=self.track.tensors["score"].pointer,
            lanes=self._lanes.pointer,
            results=self._results_down.pointer,
            sizes=self._sizes,
        )
        self.kernels.box(self.stream, addresses, self.batch)

    def _crop_into(
        self,
        places: NDArray[np.uint8],
        frame: NDArray[np.uint8],
        lanes: NDArray[Any],
        spec: CropSpec,
        border: Colour,
    ) -> None:
        """The crops of `lanes`, on the host, into `places` (one for each, S×S×3)."""
        for place, lane in zip(places, lanes, strict=True):
            if lane["side"] > 0:
                crop(
                    frame,
                    _rectangle(lane),
                    spec.size,
                    swap=self._swap,
                    edge=spec.edge,
                    border=border,
                    out=place,
                )
            else:
                place[:] = 0

    def _borders_of(self, frame: DeviceFrame | NDArray[np.uint8]) -> tuple[Colour, Colour]:
        """Of template and search crops; the pixels of the frame at `start` are fetched where they count."""
        specs = (self._bundle.template, self._bundle.search)
        if all(spec.border is Border.ZERO for spec in specs):
            return BLACK, BLACK
        if isinstance(frame, DeviceFrame):
            self._wait_for(frame)
            frame = self._download(frame)
        return border_colour(frame, specs[0]), border_colour(frame, specs[1])

    def _wait_for(self, frame: DeviceFrame) -> None:
        if frame.ready is not None:
            self.stream.wait(frame.ready)
        elif frame.stream is not None:
            self.stream.wait_for(frame.stream, self._producer)

    def _describe(self, frame: DeviceFrame, spec: CropSpec, border: Colour) -> None:
        hidden = hidden_lines(spec.edge)
        self._frame_up[0] = (
            frame.pointer, frame.width, frame.height, frame.row_bytes, hidden, (*border, 0),
        )  # fmt: skip

    def _download(self, frame: DeviceFrame) -> NDArray[np.uint8]:
        """The frame's pixels on the host."""
        nbytes = frame.row_bytes * (frame.height - 1) + 3 * frame.width  # nobody owns what follows a last row
        rows = np.zeros(frame.row_bytes * frame.height, np.uint8)
        self.stream.copy(rows.ctypes.data, frame.pointer, nbytes)
        self.stream.synchronize()
        return rows.reshape(frame.height, -1)[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)

    def _copy_description(self) -> None:
        self.stream.copy(self._frame.pointer, self._up.pointer, FRAME.itemsize)

    def _upload(self, array: NDArray[Any], pointer: int) -> None:
        # At init alone: pageable memory, so that the call returns when it has been read.
        array = np.ascontiguousarray(array)
        self.stream.copy(pointer, array.ctypes.data, array.nbytes)
        self.stream.synchronize()

    @in_context
    def close(self) -> None:
        """Lets graphs, stream and memory go; the networks belong to their owner."""
        try:
            self.stream.synchronize()
        except CudaError as error:  # it was said where it happened, or nobody waited for that work
            log.warning("what the GPU was at when the tracker was closed failed: %s", error)
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs.clear()
        self._frame_up = self._results = self._crops = np.empty(0)
        for memory in (
            self._up, self._crops_up, self._results_down, self._frame, self._rule, self._lanes,
        ):  # fmt: skip
            memory.free()
        self._producer.close()
        if self.stream is not self.track.own_stream:
            self.stream.close()


def _rectangle(lane: Any) -> CropRectangle:
    return CropRectangle(int(lane["x"]), int(lane["y"]), int(lane["side"]))
