"""TensorRT's times of an engine's layers, and which of the graph's nodes each layer computes."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from jntrt.bench.layers.work import Layer, block_names
from jntrt.runtime.engines.tensorrt.build import last_error, load_flavour, logger
from jntrt.runtime.engines.tensorrt.engine import TensorRT
from jntrt.runtime.errors import UserError

_ONNX = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_SPAN = re.compile(r"ForeignNode\[(.+?)\.\.\.(.+?)\]")  # from one node of the graph to another
_PRODUCTS = re.compile("gemm|mha|matrix|conv|corr|fusion", re.IGNORECASE)  # kernels that multiply
_TYPE = re.compile(r"bfloat16|bf16|fp16|half|fp32|float|u?int8|int32|int64|bool", re.IGNORECASE)
_PRECISIONS = {
    **{"half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16"},
    **{"float": "fp32", "fp32": "fp32", "int8": "int8"},
}
_SIZES = {"int64": 8, "int32": 4, "float": 4, "fp32": 4, "int8": 1, "uint8": 1, "bool": 1}  # others: 2 bytes

Described = dict[str, Any]  # a layer as the engine inspector has it


class LayerTimes:
    """Times of the layers of an open engine (`EngineOptions.profile`), run by run."""

    def __init__(self, opened: TensorRT) -> None:
        """Attaches a profiler; what runs from now on is timed, and slower."""
        trt = load_flavour(opened.name)
        self._opened, self._errors = opened, logger(trt).errors
        self._times: dict[str, float] = {}
        times = self._times

        class Profiler(trt.IProfiler):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times[layer_name] = times.get(layer_name, 0.0) + ms

        self._json = trt.LayerInformationFormat.JSON
        self._profiler = Profiler()  # the context does not keep it alive
        _, context = opened.profiled  # not held here: whoever closes the engine ends it
        context.enqueue_emits_profile = False  # it would wait for each run by itself
        context.profiler = self._profiler

    def counted(self) -> dict[str, float]:
        """Milliseconds of each layer in the last run, which has ended, by name. Raises UserError."""
        self._times.clear()
        _, context = self._opened.profiled
        with self._opened.device.current():
            reported = context.report_to_profiler()
        if not reported or not self._times:
            raise UserError(f"{self._opened.name} tells no times of its layers: {last_error(self._errors)}")
        return dict(self._times)

    def described(self) -> list[Described]:
        """The engine's layers in their order, as its inspector has them."""
        engine, _ = self._opened.profiled
        with self._opened.device.current():
            told = engine.create_engine_inspector().get_engine_information(self._json)
        layers = json.loads(told)["Layers"]
        return [layer if isinstance(layer, dict) else {"Name": layer} for layer in layers]


def layers_of(
    described: Sequence[Described],
    runs: Sequence[Mapping[str, float]],
    macs: Mapping[str, int],
    nodes: Sequence[str],
    attention: Set[str],
    *,
    tf32: bool = False,
) -> tuple[list[Layer], list[str]]:
    """The timed layers in their order, with the medians of their times, and the nodes with products that no
    layer names.

    runs: `counted` after each. macs, nodes, attention: the graph's products, all its nodes in order, and its
    products of two activations. tf32: float32 products are rounded to it.
    """
    by_name = {layer["Name"]: layer for layer in described if layer.get("Name")}
    timed = {name: float(np.median([run[name] for run in runs if name in run])) for name in runs[-1]}
    order = [name for name in by_name if name in timed] + [name for name in timed if name not in by_name]
    layers = [by_name.get(name, {"Name": name}) for name in order]
    originals = [_originals(layer, nodes) for layer in layers]
    computed = _computed(layers, originals, [timed[name] for name in order], macs)
    shown = [next(iter((*own, *names)), "") for own, names in zip(computed, originals, strict=True)]
    found = []
    for layer, own, name, block in zip(layers, computed, shown, block_names(shown), strict=True):
        ports = _ports(layer)
        precision = next((_PRECISIONS[kind] for kind, _ in ports if kind in _PRECISIONS), "fp32")
        found.append(
            Layer(
                name or layer["Name"],
                block,
                str(layer.get("LayerType", "unknown")),
                "tf32" if tf32 and precision == "fp32" else precision,
                timed[layer["Name"]],
                sum(macs[node] for node in own),
                sum(size for _, size in ports),
                bool(own) and own <= attention,
            )
        )
    lost = [node for node in macs if not any(node in own for own in computed)]
    return found, lost


def _originals(layer: Described, nodes: Sequence[str]) -> list[str]:
    """The graph's nodes that a layer is made of: by its metadata, else by its name, where fused names are
    joined by plus signs or tell the first and the last of a range."""
    named = _ONNX.findall(str(layer.get("Metadata", "")))
    if not named:
        name = layer["Name"]
        named = re.split(r" \+ ", name)
        for first, last in _SPAN.findall(name):
            if first in nodes and last in nodes:
                named += nodes[nodes.index(first) : nodes.index(last) + 1]
    known = set(nodes)
    return [name for name in named if name in known]


def _computed(
    layers: Sequence[Described],
    originals: Sequence[Sequence[str]],
    times: Sequence[float],
    macs: Mapping[str, int],
) -> list[set[str]]:
    """The nodes whose products each layer computes.

    A node is named by the kernels that pad or cut its tensors as well: its products are of one that
    multiplies, and among several of the one that takes longest.
    """
    named = defaultdict(list)
    for index, names in enumerate(originals):
        for name in {*names} & macs.keys():
            named[name].append(index)

    def rank(index: int) -> tuple[bool, float]:
        layer = layers[index]
        fused = "mha" in layer["Name"]
        return fused or bool(_PRODUCTS.search(str(layer.get("LayerType", "")))), times[index]

    found: list[set[str]] = [set() for _ in layers]
    for name, places in named.items():
        found[max(places, key=rank)].add(name)
    return found


def _ports(layer: Described) -> list[tuple[str, int]]:
    """Type and bytes of each tensor that a layer reads or writes, each once, inputs first."""
    ports = {}
    for group in ("Inputs", "Constants", "Outputs"):
        for port in layer.get(group, ()):
            if isinstance(port, dict):
                # One text in TensorRT 10, two from 11 on.
                told = _TYPE.search(str(port.get("Datatype") or port.get("Format/Datatype", "")))
                kind = told[0].lower() if told else ""
                size = math.prod(port.get("Dimensions", ())) * _SIZES.get(kind, 2)
                ports[group, port.get("Name"), tuple(port.get("Dimensions", ()))] = kind, size
    return list(ports.values())
