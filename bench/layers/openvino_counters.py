"""OpenVINO's counters of a compiled graph, layer by layer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jntrt.bench.layers.work import (
    CONVOLUTIONS,
    PRODUCTS,
    Layer,
    Shape,
    block_names,
    convolution_macs,
    product_macs,
)

_PRECISIONS = {"u8": "int8", "i8": "int8", "bf16": "bf16"}


def counted(request: Any) -> dict[str, float]:
    """Milliseconds of each layer in the request's last run, by name."""
    return {info.node_name: info.real_time.total_seconds() * 1e3 for info in request.get_profiling_info()}


def layers_of(compiled: Any, runs: list[dict[str, float]], macs: Mapping[str, int]) -> list[Layer]:
    """The executed layers in their order, with the medians of their times.

    runs: `counted` after each run. macs: the graph's own by node name, for kernels that hold several of them.
    """
    executed = []
    for operation in compiled.get_runtime_model().get_ordered_ops():
        times = [run[operation.friendly_name] for run in runs if operation.friendly_name in run]
        if times and np.median(times) > 0:
            executed.append((operation, float(np.median(times))))
    originals = [_originals(operation) for operation, _ in executed]
    named = [next((name for name in names if "/" in name), "") for names in originals]
    return [
        _layer(operation, name or operation.friendly_name, names, block, ms, macs)
        for (operation, ms), name, names, block in zip(
            executed, named, originals, block_names(named), strict=True
        )
    ]


def _originals(operation: Any) -> list[str]:
    """Names of the graph's nodes that the kernel computes; none of one that the engine added."""
    return [name for name in str(operation.get_rt_info()["originalLayersNames"].value).split(",") if name]


def _layer(
    operation: Any, name: str, names: list[str], block: str, ms: float, macs: Mapping[str, int]
) -> Layer:
    kind = str(operation.get_rt_info()["layerType"].value)
    inputs: list[Shape] = [tuple(port.get_shape()) for port in operation.inputs()]
    outputs: list[Shape] = [tuple(port.get_shape()) for port in operation.outputs()]
    ports = [port.get_source_output() for port in operation.inputs()] + list(operation.outputs())
    moved = sum(int(np.prod(port.get_shape())) * port.get_element_type().size for port in ports)
    if kind in PRODUCTS and inputs and outputs:
        work, attention = product_macs(inputs[0], outputs[0]), kind == "MatMul"
    elif kind in CONVOLUTIONS and len(inputs) > 1 and outputs:
        work, attention = convolution_macs(inputs[1], outputs[0]), False
    else:
        work = sum(macs.get(one, 0) for one in names)
        attention = work > 0
    precision = _PRECISIONS.get(str(operation.get_rt_info()["runtimePrecision"].value), "fp32")
    return Layer(name, block, kind, precision, ms, work, moved, attention)
