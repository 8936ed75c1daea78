"""Layers on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from jntrt.bench.layers.peaks import Peaks
from jntrt.bench.tables import titled_table

LEGEND = """\
G, M     10⁹, 10⁶ multiply-accumulates that are computed, padding included
MB       read and written
limit    least time at the peaks: products, or bytes at a copy's speed
of it    limit over time: the share of the roofline that was reached
sum      of all layers under the profile, over the network's time without it"""


def print_layers(
    peaks: Peaks, engines: Sequence[Mapping[str, Any]], console: Console, *, every: bool
) -> None:
    """Peaks, then every engine's blocks and its worst ten layers; `every`: all its layers in order."""
    products = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in peaks.macs.items())
    console.print(f"peaks of {peaks.threads} threads: {products} G products/s", highlight=False)
    copies = ", ".join(f"{size // 1024} kB {speed / 1e9:.0f}" for size, speed in peaks.bandwidth)
    console.print(f"copies of {copies} GB/s\n", highlight=False)
    for engine in engines:
        console.print(_blocks(engine))
        console.print(_layers(engine, every=every))
        for note in engine["notes"]:
            console.print(note, highlight=False)
        whole = f"network {engine['network_ms']:.3f} ms, layers {engine['sum_ms']:.3f} ms"
        console.print(f"{whole}: {engine['sum_over_network']:.2f} times the whole\n", highlight=False)
    console.print(LEGEND, highlight=False)


def _blocks(engine: Mapping[str, Any]) -> Table:
    title = (
        f"{engine['label']}: {engine['macs'] / 1e9:.3f} G, attention {engine['attention_macs'] / 1e9:.3f} G"
    )
    table = titled_table(title, "block", "ms", "M", "MB", "limit ms", "of it", width=None)
    for row in engine["blocks"]:
        table.add_row(row["block"], *_figures(row))
    return table


def _layers(engine: Mapping[str, Any], *, every: bool) -> Table:
    by_name = {row["name"]: row for row in engine["layers"]}
    rows = engine["layers"] if every else [by_name[name] for name in engine["worst"]]
    title = "All layers" if every else "Most time above the limit"
    table = titled_table(title, "layer", "kernel", "in", "ms", "M", "MB", "limit ms", "of it", width=None)
    for row in rows:
        table.add_row(row["name"], row["kind"], row["precision"], *_figures(row))
    return table


def _figures(row: Mapping[str, Any]) -> tuple[str, ...]:
    reached = "-" if row["share"] is None else f"{row['share']:.0%}"
    products, megabytes = f"{row['macs'] / 1e6:.1f}", f"{row['moved'] / 1e6:.2f}"
    limit = "-" if row["limit_ms"] is None else f"{row['limit_ms']:.3f}"
    return f"{row['ms']:.3f}", products, megabytes, limit, reached
