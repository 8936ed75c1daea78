"""Layers in a report: where the time goes, and which layers are farthest from what the machine can do."""

from collections.abc import Iterator, Mapping
from typing import Any

from jntrt.bench.report.shown import charts
from jntrt.bench.report.shown.blocks import Block, Chart, Folded, Heading, Table, Text
from jntrt.bench.report.shown.words import time_of

Document = Mapping[str, Any]


def layer_blocks(document: Document) -> Iterator[Block]:
    """Peaks, then every engine's blocks and worst layers."""
    layers = document["layers"]
    peaks = layers["peaks"]
    yield Heading("Layers")
    products = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in peaks["macs"].items())
    copies = ", ".join(f"{size // 1024} kB {speed / 1e9:.0f}" for size, speed in peaks["bandwidth"])
    yield Text(
        f"Peaks of this machine with {peaks['threads']} threads, measured: {products} G multiply-accumulates"
        f" per second; copies of {copies} GB/s. A layer's limit is the longer of its products at the peak and"
        " its bytes at the speed of a copy of as many."
    )
    yield overview(layers["engines"])
    for engine in layers["engines"]:
        yield Folded(
            engine["label"],
            (
                Chart(charts.blocks(engine), "Blocks of the network in the graph's order."),
                worst(engine),
                *map(Text, engine.get("notes", ())),
            ),
        )


def overview(engines: list[Mapping[str, Any]]) -> Table:
    """One row an engine: the sum of its layers against the whole, and its share of the roofline."""
    rows = []
    for engine in engines:
        limits = [row["limit_ms"] for row in engine["layers"]]
        reached = None if None in limits else sum(limits) / engine["sum_ms"]
        head = sum(row["macs"] for row in engine["layers"] if row["block"] == "head")
        rows.append(
            (
                *(engine["label"], str(len(engine["layers"])), f"{engine['macs'] / 1e9:.3f}"),
                f"{head / (engine['macs'] + engine['attention_macs']):.0%}",
                *(f"{engine['attention_macs'] / 1e9:.3f}", time_of(engine["network_ms"])),
                *(time_of(engine["sum_ms"]), f"{engine['sum_over_network']:.2f}"),
                _percent(reached),
            )
        )
    return Table(
        (
            "engine",
            "layers",
            "G",
            "in the head",
            "attention G",
            "network ms",
            "sum ms",
            "sum / network",
            "of the limit",
        ),
        rows,
        "G: 10⁹ multiply-accumulates that are computed, padded channels included; attention (products of two"
        " activations) is not in the papers' counts; the head's share is of both. network: timed without a"
        " profile; sum: of the layers with one, which slows small layers. Above 100 %: the machine was slower"
        " while its peaks were measured.",
    )


def worst(engine: Mapping[str, Any]) -> Table:
    """The ten layers with the most time above their limit."""
    by_name = {row["name"]: row for row in engine["layers"]}
    rows = []
    for name in engine["worst"]:
        row = by_name[name]
        rows.append(
            (
                *(name, row["kind"], row["precision"], time_of(row["ms"]), f"{row['macs'] / 1e6:.1f}"),
                *(f"{row['moved'] / 1e6:.2f}", time_of(row["limit_ms"]), _percent(row["share"])),
            )
        )
    return Table(
        ("layer", "kernel", "in", "ms", "M products", "MB", "limit ms", "of the limit"),
        rows,
        "The ten layers with the most time above their limit.",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
