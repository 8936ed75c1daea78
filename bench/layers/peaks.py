"""What a machine can do at most: products per second by precision, bytes per second by size.

Measured of a CPU; of a GPU as its maker says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from jntrt.bench.cards import card_of
from jntrt.runtime.engines.onnxruntime_session import open_session

SIDE = 1024  # of the matrices
SIZES = tuple(2**k for k in range(18, 27, 2))  # bytes moved: from a cache's to the memory's
SECONDS = 0.4  # of each test


@dataclass(frozen=True)
class Peaks:
    """threads: that they were measured with; 0: of a GPU's data sheet. macs: multiply-accumulates per second
    by precision.

    bandwidth: (bytes, bytes per second) of copies, read and write counted, by size.
    """

    threads: int
    macs: dict[str, float]
    bandwidth: tuple[tuple[int, float], ...]

    def limit(self, precision: str, macs: float, moved: float) -> float:
        """The least seconds for a layer: its products at the peak, or its bytes at the speed of a copy of as
        many, whichever is longer."""
        speed = next((speed for size, speed in self.bandwidth if size >= moved), self.bandwidth[-1][1])
        return max(macs / self.macs.get(precision, self.macs["fp32"]), moved / speed)

    def or_better(self, other: Peaks) -> Peaks:
        """The better of two measurements with the same threads, each."""
        macs = {name: max(speed, other.macs.get(name, 0.0)) for name, speed in self.macs.items()}
        pairs = zip(self.bandwidth, other.bandwidth, strict=True)
        return Peaks(self.threads, macs, tuple((size, max(a, b)) for (size, a), (_, b) in pairs))


def measure_peaks(threads: int | None) -> Peaks:
    """The peaks with `threads` (None: all cores), the best of a second's repetitions each.

    fp32 is the fastest of NumPy's, ONNX Runtime's and OpenVINO's product; int8 ONNX Runtime's; bf16
    OpenVINO's, where the CPU has it.
    """
    from jntrt.bench.machine import describe_machine

    count = threads or int(describe_machine()["cores"])
    fp32, int8 = _models()
    products = {"fp32": [_numpy(), _onnxruntime(fp32, np.float32, count)]}
    products["int8"] = [_onnxruntime(int8, np.uint8, count)]
    if find_spec("openvino") is not None:
        products["fp32"].append(_openvino(fp32, "f32", count))
        if bf16 := _bf16(fp32, count):
            products["bf16"] = [bf16]
    macs = {name: max(SIDE**3 / _best(product) for product in tests) for name, tests in products.items()}
    return Peaks(count, macs, tuple((size, _copies(size, count)) for size in SIZES))


def gpu_peaks(gpu: str) -> Peaks | None:
    """A GPU's data sheet and what copies achieve; None where the table of cards lacks it."""
    card = card_of(gpu)
    if card is None:
        return None
    bf16 = card.flops(int8=False, fp32_sums=True)
    flops = {
        "fp32": card.fp32_flops,
        "fp16": card.flops(int8=False, fp32_sums=False),
        "int8": card.flops(int8=True, fp32_sums=False),
        **{"bf16": bf16, "tf32": bf16 / 2},  # as Ampere has them; an engine on Turing has neither
    }
    return Peaks(0, {name: rate / 2 for name, rate in flops.items()}, ((0, card.bytes_per_second),))


def _models() -> tuple[bytes, bytes]:
    """One product, float32 and uint8×int8, with constant weights, as ONNX."""
    from onnx import TensorProto, helper, numpy_helper

    models = []
    for op_type, kind, result, dtype in (
        ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, np.float32),
        ("MatMulInteger", TensorProto.UINT8, TensorProto.INT32, np.int8),
    ):
        weights = np.random.default_rng(0).integers(-9, 9, (SIDE, SIDE)).astype(dtype)
        graph = helper.make_graph(
            [helper.make_node(op_type, ["a", "b"], ["c"])],
            "product",
            [helper.make_tensor_value_info("a", kind, [SIDE, SIDE])],
            [helper.make_tensor_value_info("c", result, [SIDE, SIDE])],
            [numpy_helper.from_array(weights, "b")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        models.append(model.SerializeToString())
    return models[0], models[1]


def _numpy() -> Callable[[], object]:
    left, right, out = np.ones((3, SIDE, SIDE), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _onnxruntime(model: bytes, dtype: Any, threads: int) -> Callable[[], object]:
    session = open_session(model, threads=threads, spin=True)
    feeds = {"a": np.ones((SIDE, SIDE), dtype)}
    return lambda: session.run(None, feeds)


def _openvino(model: bytes, hint: str, threads: int) -> Callable[[], object]:
    from jntrt.runtime.engines.openvino import core

    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = core().compile_model(core().read_model(model), "CPU", settings).create_infer_request()
    feeds = {"a": np.ones((SIDE, SIDE), np.float32)}
    return lambda: request.infer(feeds, share_inputs=True, share_outputs=True)


def _bf16(model: bytes, threads: int) -> Callable[[], object] | None:
    from jntrt.runtime.engines.openvino import OpenVino
    from jntrt.runtime.engines.precision import find_precision

    return None if OpenVino.obstacle(find_precision("bf16")) else _openvino(model, "bf16", threads)


def _best(call: Callable[[], object]) -> float:
    """Seconds of the fastest call within `SECONDS`."""
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while (begin := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def _copies(size: int, threads: int) -> float:
    """Bytes per second, read and written, of copies that move `size` bytes, shared among threads."""
    each = size // 2 // threads
    pairs = [(np.zeros(each, np.uint8), np.ones(each, np.uint8)) for _ in range(threads)]
    repeats = max(1, (1 << 24) // each)

    def copy(pair: tuple[Any, Any]) -> None:
        for _ in range(repeats):
            np.copyto(*pair)

    with ThreadPoolExecutor(threads) as pool:
        return 2 * each * threads * repeats / _best(lambda: list(pool.map(copy, pairs)))
