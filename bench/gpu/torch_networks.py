"""The plain form in torch on a GPU: what engines are compared with, and the network where there is none."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from time import perf_counter
from typing import Any

import numpy as np

from jntrt.bench.gpu.loop import Figures, Image, measure_loop, percentiles
from jntrt.bench.gpu.rows import EAGER
from jntrt.bench.latency.drawn_video import BOX
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.cuda.driver import Device, Stream
from jntrt.runtime.cuda.loop import DeviceLoop, DeviceTensor
from jntrt.runtime.errors import UserError

# A label, how it is launched, and the times.
TorchFigures = tuple[str, str, Figures]
COMPILED, FUSED, IN_LOOP = "torch.compile fp16", "torch.compile SDPA fp16", "torch fp16 in the loop"
LABELS = (EAGER, COMPILED, FUSED, IN_LOOP)


class TorchNetwork:
    """The plain form in torch, as a CUDA graph of torch's own: for machines without any other engine."""

    own_stream: Stream | None = None

    def __init__(self, model: Any, tensors: Mapping[str, Any], compute: Callable[[Any], None]) -> None:
        import torch

        self._inputs = dict(tensors)  # torch tensors at fixed addresses
        self.tensors = {
            name: DeviceTensor(value.data_ptr(), tuple(value.shape), _numpy_type(value))
            for name, value in tensors.items()
        }
        cuda: Any = torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())  # the tensors are made there
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(3):
                compute(self._inputs)
        side.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self._graph):
            compute(self._inputs)
        self._model = model

    def relocate(self, name: str, tensor: DeviceTensor) -> None:
        raise UserError(f"{name}: torch's tensors stay where they are")

    def enqueue(self, stream: Stream) -> None:
        import torch

        cuda: Any = torch.cuda
        with cuda.stream(cuda.ExternalStream(stream.handle)):
            self._graph.replay()

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        return "torch's graph is replayed between the two kernels"


class TorchTemplate:
    """The template graph's place: the crop stays in torch's tensor, the network comes after it."""

    own_stream: Stream | None = None

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = {
            name: DeviceTensor(value.data_ptr(), tuple(value.shape), _numpy_type(value))
            for name, value in tensors.items()
        }

    def relocate(self, name: str, tensor: DeviceTensor) -> None:
        raise UserError(f"{name}: torch's tensors stay where they are")

    def enqueue(self, stream: Stream) -> None:
        """Nothing to run: the plain form takes the template in every frame."""

    def obstacle_to_capture(self, stream: Stream) -> str | None:
        return None


def _numpy_type(value: Any) -> np.dtype[Any]:
    return np.dtype(str(value.dtype).removeprefix("torch."))


def measure_torch(
    device: Device, bundle: Bundle, frames: list[Image], calls: int, wanted: Collection[str] = LABELS
) -> Iterator[TorchFigures]:
    """Eager, torch.compile without and with fused attention, torch in the loop, in fp16; random weights.

    `wanted`: those of them that are measured.
    """
    try:
        import torch
    except ImportError:
        print("torch is not installed: no comparison with it", file=sys.stderr)
        return
    if not torch.cuda.is_available():
        print("this torch has no CUDA: no comparison with it", file=sys.stderr)
        return
    from jntrt.bench.gpu.sdpa import with_fused_attention
    from jntrt.bench.latency.plain_network import Positional, example_inputs, plain_form

    plain = plain_form(bundle)
    example = example_inputs(bundle, plain)
    model = Positional(plain, list(example)).eval().cuda().half()
    sizes = {"template": bundle.template.size, "search": bundle.search.size}
    crops = {
        name: torch.zeros((bundle.batch, size, size, 3), dtype=torch.uint8, device="cuda")
        for name, size in sizes.items()
    }
    beside = [value.cuda().half() for name, value in example.items() if name not in crops]

    def run(network: Any) -> Any:
        return network(*(plain.normalise(crop).half() for crop in crops.values()), *beside)

    networks = {EAGER: model, COMPILED: torch.compile(model, mode="max-autotune")}
    fused = with_fused_attention(model)
    if fused is not None:
        networks[FUSED] = torch.compile(fused, mode="max-autotune")
    for label, network in networks.items():
        if label not in wanted:
            continue

        def call(_: int, network: Any = network) -> float:
            begin = perf_counter()
            with torch.inference_mode():
                run(network)
            torch.cuda.synchronize()
            return (perf_counter() - begin) * 1e3

        try:
            figures = percentiles(call, calls)
        except RuntimeError as error:
            _say(bundle, label, error)
            continue
        yield label, "whole plain form", (None, None, None, None, figures)

    if IN_LOOP not in wanted:
        return

    outputs = {
        "box": torch.zeros((bundle.batch, 4), device="cuda"),
        "score": torch.zeros(bundle.batch, device="cuda"),
    }

    def compute(tensors: Any) -> None:
        box, score = run(model)
        tensors["box"].copy_(box)
        tensors["score"].copy_(score.reshape(-1))

    try:
        track = TorchNetwork(model, {"search": crops["search"], **outputs}, compute)
        template = TorchTemplate({"template": crops["template"]})
        loop = DeviceLoop(device, template, track, bundle, swap=False)
        loop.start(frames[0], [BOX] * bundle.batch, {})
        times = measure_loop(device, loop, frames, calls)
        launch = loop.launch
        loop.close()
    except RuntimeError as error:
        _say(bundle, IN_LOOP, error)
    else:
        yield IN_LOOP, launch, times


def _say(bundle: Bundle, label: str, error: Exception) -> None:
    print(f"{bundle.name} {label}: {(str(error).splitlines() or [''])[0][:200]}", file=sys.stderr)
