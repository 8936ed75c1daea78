"""Builds a bundle's graphs with TensorRT-RTX for cards that are not here, and reads what came out.

No GPU and no driver is needed: the builder is told the compute capability. The layer listing says which
attentions became one fused kernel and what runs outside the wanted type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.graph.onnx_bytes import Node, read_nodes
from jntrt.runtime.engines.precision import PRECISIONS, find_precision
from jntrt.runtime.engines.tensorrt.build import BuildOptions, build_plan, load_flavour, logger
from jntrt.runtime.errors import UserError

FLAVOUR = "tensorrt-rtx"
_LAYER = re.compile(r"^Name: (.*?), LayerType: (.*?), Inputs: (\[.*?\]), Constants: (.*)$", re.MULTILINE)
_FUSED_ATTENTION = "_gemm_mha_v2"
_PRODUCT_KINDS = ("gemm", "runtime_fusion", "correlation")


@dataclass(frozen=True)
class BuiltLayer:
    """One layer of a plan: its name and kind, the element types it reads, the ONNX nodes it came from."""

    name: str
    kind: str
    reads: frozenset[str]
    nodes: frozenset[str]


@dataclass(frozen=True)
class Build:
    """One track graph for one architecture. failure: why it does not build, or None; the rest is 0 then.

    attentions: fused ones, of `attentions_total`; products: Linears and convolutions that the precision is
    for; outside: those of them that read another type than the precision's.
    """

    precision: str
    architecture: str
    failure: str | None
    attentions_total: int
    products: int
    layers: int = 0
    attentions: int = 0
    megabytes: float = 0.0
    outside: tuple[str, ...] = ()


def check_build(
    bundle: Bundle,
    architectures: Sequence[str],
    precisions: Sequence[str] = (),
    on_build: Callable[[str], None] | None = None,
) -> list[Build]:
    """Builds the track graph of every precision for every architecture ("75", "89", …).

    precisions: default, those of the bundle that TensorRT is for (fp16, bf16-gpu, int8-fp16), else what
    it has.
    """
    trt = load_flavour(FLAVOUR)
    known = [name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    for architecture in architectures:
        if architecture not in known:
            raise UserError(f"--sm {architecture}: TensorRT-RTX builds for {', '.join(known)}")
    chosen = list(precisions) or [
        name
        for name, kind in PRECISIONS.items()
        if (kind.fp16 or kind.bf16) and kind.typed and name in bundle.precisions
    ]
    builds = []
    for precision in chosen or bundle.precisions:
        model = bundle.graph("track", precision).read_bytes()
        for architecture in architectures:
            if on_build is not None:
                on_build(f"{precision} for SM{architecture}")
            builds.append(build(model, precision, architecture))
    return builds


def build(model: bytes, precision: str, architecture: str) -> Build:
    """One build of an ONNX graph's bytes, read back from TensorRT's own listing."""
    nodes = read_nodes(model)
    attentions = count_attentions(nodes)
    kind = find_precision(precision)
    products = _products(nodes, quantised_only=kind.int8)
    sink = logger(load_flavour(FLAVOUR))
    sink.listings.clear()
    try:
        plan = build_plan(model, FLAVOUR, BuildOptions(), targets=(f"SM{architecture}",), detailed=True)
    except UserError as error:
        return Build(precision, architecture, str(error), attentions, len(products))
    layers = read_layers(sink.listings[-1]) if sink.listings else []
    reads = _reads(layers, products)
    own_type = (
        "Int8" if kind.int8 else "Half" if kind.fp16 else "BFloat16" if kind.bf16 else "Float"
    )  # what products should read
    return Build(
        precision,
        architecture,
        None,
        attentions,
        len(products),
        layers=len(layers),
        attentions=sum(_FUSED_ATTENTION in layer.name for layer in layers),
        megabytes=len(plan) / 2**20,
        outside=tuple(sorted(n for n in products if own_type not in reads.get(n, frozenset()))),
    )


def read_layers(listing: str) -> list[BuiltLayer]:
    """The layers of TensorRT's "Layers:" message (profiling verbosity DETAILED)."""
    found = []
    for name, kind, inputs, rest in _LAYER.findall(listing):
        types = frozenset(re.findall(r"Datatype: (\w+)", inputs))
        found.append(BuiltLayer(name, kind, types, frozenset(re.findall(r"\[ONNX Layer: ([^\]]+)\]", rest))))
    return found


def _reads(layers: list[BuiltLayer], products: frozenset[str]) -> dict[str, frozenset[str]]:
    """Element types that each product reads: in its product layer, or else in the fused kernel it became."""
    found: dict[str, frozenset[str]] = {}
    for wanted in (True, False):
        layer_reads: dict[str, frozenset[str]] = {}
        for layer in layers:
            if (layer.kind in _PRODUCT_KINDS) == wanted:
                for name in (layer.nodes & products) - set(found):
                    layer_reads[name] = layer_reads.get(name, frozenset()) | layer.reads
        found |= layer_reads
    return found


def count_attentions(nodes: list[Node]) -> int:
    """How many softmaxes weigh the rows of a product of two activations, as an attention's does."""
    computed = {output for node in nodes for output in node.outputs}
    weights = {
        node.inputs[0] for node in nodes if node.op_type == "MatMul" and set(node.inputs[:2]) <= computed
    }
    return sum(node.op_type == "Softmax" and node.outputs[0] in weights for node in nodes)


def _products(nodes: list[Node], quantised_only: bool) -> frozenset[str]:
    """Names of the products with constants: all of them, or those whose weights are int8."""
    made = {output: node for node in nodes for output in node.outputs}
    names = set()
    for node in nodes:
        if node.op_type not in ("MatMul", "Conv"):
            continue
        weight = node.inputs[1]
        maker = made.get(weight)
        if maker is not None and maker.op_type == "Cast":
            maker = made.get(maker.inputs[0])
        quantised = maker is not None and maker.op_type == "DequantizeLinear"
        if quantised or (not quantised_only and maker is None):
            names.add(node.name)
    return frozenset(names)
