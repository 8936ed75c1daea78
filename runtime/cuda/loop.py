"""The device loop: one frame as one launch.

    description and crop up → [crop kernel] → network → box kernel → five floats down

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
from jntrt.runtime.bundle.manifest import CropSpec
from jntrt.runtime.crop import crop
from jntrt.runtime.cuda.driver import Buffer, CudaError, Device, Event, Graph, PinnedBuffer, Stream
from jntrt.runtime.cuda.frames import DeviceFrame, device_frame
from jntrt.runtime.cuda.kernels import FRAME, LANE, RESULT, BoxAddresses, aim, shared_kernels
from jntrt.runtime.errors import TrackerError
from jntrt.runtime.geometry import CropRectangle
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Step:
    """What one frame gave: boxes B×4 float64 (x, y, w, h in pixels), scores (B,), and milliseconds."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    crop_ms: float  # on the host; 0 where the GPU crops, which then is part of network_ms
    network_ms: float  # launch to result


class DeviceLoop:
    """Tracks `batch` objects through frames of one size. `start` shows the targets, `step` follows them."""

    def __init__(
        self,
        device: Device,
        template: DeviceNetwork,
        track: DeviceNetwork,
        specs: tuple[CropSpec, CropSpec],
        *,
        swap: bool,
        graph: bool = True,
    ) -> None:
        """`specs`: of template and search crop. `swap`: frames are BGR. `graph` False: no capture."""
        self.device = device
        self.template, self.track = template, track
        self._template_spec, self._spec = specs
        self._swap = swap
        self.batch = track.tensors["search"].shape[0]
        device.activate()
        self.kernels = shared_kernels(device)
        self.stream = Stream(device)
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
        self._lanes = Buffer(device, self.batch * LANE.itemsize)
        self._graphs: dict[bool, Graph | None] = {}
        self._wants_graph = graph
        self.launch = "not yet"  # "graph", or "stream" and why
        self._boxes: NDArray[np.float64] = np.zeros((0, 4))
        self._join()

    def _join(self) -> None:
        """Lets the template graph write its memory straight into the track graph's inputs."""
        for name in self.template.tensors:
            if name in self.track.tensors:
                self.template.relocate(name, self.track.tensors[name])

    def on_device(self, frame: Any) -> DeviceFrame | None:
        """The frame where it lies on the GPU, None for one that does not (a host array)."""
        return device_frame(frame, self.stream.handle, self.device.info.ordinal)

    def start(
        self,
        frame: DeviceFrame | NDArray[np.uint8],
        boxes: Sequence[Sequence[float]],
        feeds: Mapping[str, NDArray[Any]],
    ) -> None:
        """Runs the template graph on the crops around `boxes` (B of x, y, w, h).

        `feeds`: the other inputs, of either graph, that depend on the target.
        """
        self.device.activate()
        template = self.template.tensors["template"]
        size = self._template_spec.size
        lanes = aim(np.array(boxes, np.float64), self._template_spec.factor, size)
        if isinstance(frame, DeviceFrame):
            self._describe(frame)
            self._upload(lanes, self._lanes.pointer)
            self._copy_description()
            self.kernels.crop(
                self.stream, self._frame.pointer, self._lanes.pointer, self.batch, template.pointer, size,
                swap=self._swap,
            )  # fmt: skip
        else:
            crops = [crop(frame, _rectangle(lane), size, swap=self._swap) for lane in lanes]
            self._upload(np.stack(crops), template.pointer)
        for name, value in feeds.items():
            owner = self.template if name in self.template.tensors else self.track
            self._upload(value, owner.tensors[name].pointer)
        self.template.enqueue(self.stream)
        self.stream.synchronize()
        self.move(boxes)

    def move(self, boxes: Sequence[Sequence[float]]) -> None:
        """Puts the state at `boxes` (B of x, y, w, h) and keeps the template."""
        self.device.activate()
        self._boxes = np.array(boxes, np.float64)
        self._upload(aim(self._boxes, self._spec.factor, self._spec.size), self._lanes.pointer)
        self.stream.synchronize()

    def step(self, frame: DeviceFrame | NDArray[np.uint8]) -> Step:
        """Follows the targets into the next frame. Raises TrackerError when the output is not finite."""
        self.device.activate()
        begin = perf_counter()
        on_device = isinstance(frame, DeviceFrame)
        if isinstance(frame, DeviceFrame):
            self._describe(frame)
        else:
            self._frame_up[0] = (0, frame.shape[1], frame.shape[0], 0)
            lanes = aim(self._boxes, self._spec.factor, self._spec.size)
            for place, lane in zip(self._crops, lanes, strict=True):
                place[:] = crop(frame, _rectangle(lane), self._spec.size, swap=self._swap)
        cropped = perf_counter()
        self._launch(on_device)
        self.stream.synchronize()
        end = perf_counter()
        if self._results["status"].any():
            self.move(self._boxes.tolist())  # of several targets, those with finite numbers have moved
            raise TrackerError(
                f"the network's output is not finite (score {self._results['score'].tolist()}): the bundle or"
                " its precision is broken, try fp32"
            )
        self._boxes = self._results["box"].copy()
        return Step(
            boxes=self._boxes.copy(),
            scores=self._results["score"].astype(np.float64),
            crop_ms=0.0 if on_device else (cropped - begin) * 1e3,
            network_ms=(end - (begin if on_device else cropped)) * 1e3,
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
        self._copy_description()
        search = self.track.tensors["search"]
        if on_device:
            self.kernels.crop(
                self.stream, self._frame.pointer, self._lanes.pointer, self.batch, search.pointer,
                self._spec.size, swap=self._swap,
            )  # fmt: skip
        else:
            self.stream.copy(search.pointer, self._crops_up.pointer, search.nbytes)
        self.track.enqueue(self.stream)
        addresses = BoxAddresses(
            frame=self._frame.pointer,
            boxes=self.track.tensors["box"].pointer,
            scores=self.track.tensors["score"].pointer,
            lanes=self._lanes.pointer,
            results=self._results_down.pointer,
        )
        self.kernels.box(self.stream, addresses, self.batch, self._spec.factor, self._spec.size)

    def _describe(self, frame: DeviceFrame) -> None:
        if frame.ready is not None:
            self.stream.wait(frame.ready)
        elif frame.stream is not None:
            self.stream.wait_for(frame.stream, self._producer)
        self._frame_up[0] = (frame.pointer, frame.width, frame.height, frame.row_bytes)

    def _copy_description(self) -> None:
        self.stream.copy(self._frame.pointer, self._up.pointer, FRAME.itemsize)

    def _upload(self, array: NDArray[Any], pointer: int) -> None:
        # At init alone: pageable memory, so that the call returns when it has been read.
        array = np.ascontiguousarray(array)
        self.stream.copy(pointer, array.ctypes.data, array.nbytes)
        self.stream.synchronize()

    def close(self) -> None:
        """Lets graphs, stream and memory go; the networks belong to their owner."""
        self.device.activate()
        self.stream.synchronize()
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs.clear()
        self._frame_up = self._results = self._crops = np.empty(0)
        for memory in (self._up, self._crops_up, self._results_down, self._frame, self._lanes):
            memory.free()
        self._producer.close()
        self.stream.close()


def _rectangle(lane: Any) -> CropRectangle:
    return CropRectangle(int(lane["x"]), int(lane["y"]), int(lane["side"]))
