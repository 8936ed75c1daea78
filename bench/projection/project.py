"""A bundle's network on a GPU that is not here."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jntrt.bench.cards import CARDS, Card, find_card
from jntrt.bench.projection.fit import LIBRARY, NINE_TENTHS, Interval, fits, interval, pairs_residual
from jntrt.bench.projection.graph import graph_kernels
from jntrt.bench.projection.kernels import Kernel, network_ms
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.errors import UserError


@dataclass(frozen=True)
class Projection:
    """The network alone on `card`, in TensorRT. `fp32_sums`: its fp16 products are summed in fp32.

    launches: the share of its time that the kernels' launches take. origin: the GPU whose measured layers it
    is scaled from, None: from the graph's products.
    """

    precision: str
    card: str
    fp32_sums: bool
    interval: Interval
    launches: float
    origin: str | None = None


@dataclass(frozen=True)
class Measured:
    """The layers of a network as a GPU ran them: milliseconds by name, as the engine calls each."""

    card: str
    precision: str
    layers: tuple[tuple[str, float], ...]

    @property
    def ms(self) -> float:
        """Their sum."""
        return sum(ms for _, ms in self.layers)


def project(bundle: Bundle, card: str, measured: Measured | None = None) -> list[Projection]:
    """A projection for each precision of the bundle that tensor cores compute, for both kinds of sums.

    fp32 graphs stand for fp16 where the bundle has none: they have the same products. Raises UserError for a
    card or layers that are unknown.
    """
    destination, found = find_card(card), []
    precisions = {"fp16": "fp16" if "fp16" in bundle.precisions else "fp32"}
    precisions |= {name: name for name in bundle.precisions if name.startswith("int8")}
    for precision, stored in precisions.items():
        kernels = graph_kernels(bundle, stored)
        constants = fits()[""].constants(LIBRARY)
        for fp32_sums in (False, True):
            whole = interval(kernels, destination, fp32_sums=fp32_sums)
            launches = 1e3 * constants.launch * len(kernels) / whole.ms
            found.append(Projection(precision, destination.name, fp32_sums, whole, launches))
            if measured is not None and measured.precision == precision:
                scaled = scale_measured(kernels, measured, destination, fp32_sums=fp32_sums)
                name = CARDS[measured.card].name
                found.append(
                    Projection(precision, destination.name, fp32_sums, scaled, launches, origin=name)
                )
    return found


def read_measured(file: Path, card: str, precision: str) -> Measured:
    """Layers from a JSON file: its `layers`, each with `name` and `ms`. UserError where it has none."""
    find_card(card)
    try:
        layers = tuple(
            (str(layer["name"]), float(layer["ms"])) for layer in json.loads(file.read_text())["layers"]
        )
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{file}: holds no layers: give JSON with "layers", each with name and ms') from None
    if not layers or not all(0 <= ms < 1e6 for _, ms in layers):
        raise UserError(f"{file}: holds no layers with times in milliseconds")
    return Measured(card, precision, layers)


def scale_measured(
    kernels: Sequence[Kernel], measured: Measured, destination: Card, *, fp32_sums: bool
) -> Interval:
    """Each layer's time, times the ratio of what the model says of its kernels on both cards.

    A layer is known by the names of the nodes in its own; what no name tells is scaled as the sum is.
    Raises UserError where no layer is known.
    """
    origin = CARDS[measured.card]
    layers = [
        (ms, [kernel for kernel in kernels if kernel.name and kernel.name in name])
        for name, ms in measured.layers
    ]
    known = sum(ms for ms, parts in layers if parts)
    if not known:
        raise UserError("no layer bears the name of a node of this bundle: measure this bundle's engine")
    times = {}
    for name, found in fits().items():
        constants = found.constants(LIBRARY)
        scaled = 0.0
        for ms, parts in layers:
            if parts:
                here = network_ms(parts, destination, constants, fp32_sums=fp32_sums)
                scaled += ms * here / network_ms(parts, origin, constants, fp32_sums=True)
        times[name] = scaled * measured.ms / known
    spread = math.exp(NINE_TENTHS * pairs_residual())
    return Interval(times[""], min(times.values()) / spread, max(times.values()) * spread)


def to_dict(found: Projection) -> dict[str, Any]:
    """For JSON, marked as what it is."""
    return {
        "kind": "projected",
        "card": found.card,
        "precision": found.precision,
        "sums": "fp32" if found.fp32_sums else "fp16",
        "scope": "network alone, batch 1, TensorRT",
        "from": found.origin or "the graph's products",
        "ms": found.interval.ms,
        "low_ms": found.interval.low,
        "high_ms": found.interval.high,
        "launch_share": found.launches,
    }
