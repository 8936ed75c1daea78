"""ONNX Runtime's profile of a session, layer by layer."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
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

_SUFFIX = "_kernel_time"
_ADDED = re.compile(r"(_nchwc|_token_\d+|_quant)+$")  # to names by the optimiser


def read_profile(file: Path, runs: int, macs: Mapping[str, int]) -> list[Layer]:
    """The layers of the last `runs` runs in a profile, in their order, with the medians of their times.

    macs: the graph's own by node name, for layers whose kernel the profile does not show.
    """
    events = [event for event in json.loads(file.read_text()) if event.get("cat") == "Node"]
    times: dict[str, list[float]] = {}
    arguments: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["name"].endswith(_SUFFIX):
            key = f"{event['args']['node_index']} {event['name'].removesuffix(_SUFFIX)}"
            times.setdefault(key, []).append(event["dur"] / 1e3)
            arguments[key] = event["args"]
    names = [_ADDED.sub("", key.partition(" ")[2]) for key in times]
    blocks = block_names(names)
    return [
        _layer(name, block, float(np.median(times[key][-runs:])), arguments[key], macs)
        for key, name, block in zip(times, names, blocks, strict=True)
    ]


def _layer(name: str, block: str, ms: float, arguments: dict[str, Any], macs: Mapping[str, int]) -> Layer:
    kind = arguments["op_name"]
    inputs, outputs = _shapes(arguments["input_type_shape"]), _shapes(arguments["output_type_shape"])
    moved = sum(int(arguments[key]) for key in ("activation_size", "parameter_size", "output_size"))
    integers = "int8" in str(arguments["input_type_shape"][:1])
    work, attention = 0, False
    if kind in PRODUCTS and inputs and outputs:
        work = product_macs(inputs[0], outputs[0])
        attention = sum(len(shape) > 2 for shape in inputs) > 1
        if not attention and sum(len(shape) > 1 for shape in inputs) < 2:
            # Weights that were packed at the start are in no size that the profile tells.
            weights = work // (math.prod(outputs[0]) // outputs[0][-1])
            moved += weights if integers else 4 * weights
    elif kind in CONVOLUTIONS and outputs:
        kernels = [shape for shape in inputs[1:] if len(shape) > 2]
        work = convolution_macs(kernels[0], outputs[0]) if kernels else macs.get(name, 0)
    return Layer(name, block, kind, "int8" if integers else "fp32", ms, work, moved, attention)


def _shapes(tensors: list[dict[str, list[int]]]) -> list[Shape]:
    return [tuple(shape) for tensor in tensors for shape in tensor.values()]
