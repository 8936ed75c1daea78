"""What `bench-jn project` prints: three kinds of numbers, a table each, and the back-test beside them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from jntrt.bench.cards import CARDS
from jntrt.bench.latency.report import published_figure
from jntrt.bench.projection.fit import Tested, back_test, interval, pairs_residual, widening
from jntrt.bench.projection.project import Measured, Projection, to_dict
from jntrt.bench.projection.published import OSTRACK_2060, ostrack_256_ce
from jntrt.bench.tables import titled_table
from jntrt.runtime.bundle import Bundle

NARROW = (0, 1, 0, 0)  # of columns: a space between two
LEGEND = """\
projected  nobody has measured it: the graph's products in waves of tiles on
           that card's tensor cores, under its roofline, at the efficiency and
           launch time that fit the published points; interval: over the fits
           that leave one GPU out, widened by what the points scatter (90 %)
sums       of fp16 products: in fp16, which a GeForce does at twice the rate, or
           in fp32; which of them an engine takes is its builder's choice
error      of a GPU that the fit has not seen, +10 %: projected too slow. alone:
           from the products; T4, A30, A100: scaled from the same network's time
           there; waves: that time by Habitat's wave scaling, kernel by kernel
by         TRT TensorRT, FT FasterTransformer, AIT AITemplate"""
_SHORT = {"TensorRT": "TRT", "FasterTransformer": "FT", "AITemplate": "AIT"}


def report(bundle: Bundle, projections: Sequence[Projection], measured: Measured | None) -> dict[str, Any]:
    """All three kinds, apart, for JSON."""
    figure = published_figure(bundle)
    return {
        "bundle": bundle.name,
        "bundle_sha256": bundle.sha256,
        "measured_here": None
        if measured is None
        else {"card": CARDS[measured.card].name, "precision": measured.precision, "layers_ms": measured.ms},
        "published": None if figure is None else asdict(figure),
        "projected": [to_dict(found) for found in projections],
        "back_test": back_test_rows(),
        "widening_for_nine_tenths": widening(),
        "held_out_frame": held_out_frame(),
    }


def back_test_rows() -> list[dict[str, Any]]:
    """Every published point, projected without its GPU, for JSON."""
    return [_tested(tested) for tested in back_test()]


def held_out_frame() -> dict[str, Any]:
    """OSTrack-256-CE on the card of a user, which no fit has seen: published beside projected."""
    low, high = OSTRACK_2060.network_ms
    cases = []
    for name in OSTRACK_2060.cards:
        for fp32_sums in (False, True):
            found = interval(ostrack_256_ce(), CARDS[name], fp32_sums=fp32_sums)
            cases.append(
                {
                    **{
                        "kind": "projected",
                        "card": CARDS[name].name,
                        "sums": "fp32" if fp32_sums else "fp16",
                    },
                    **{"ms": found.ms, "low_ms": found.low, "high_ms": found.high},
                    "brackets": found.low <= low and high <= found.high,
                }
            )
    published = {
        **{"kind": "published", "network": OSTRACK_2060.network, "fps": OSTRACK_2060.fps},
        **{"scope": OSTRACK_2060.scope, "host_ms": OSTRACK_2060.host_ms, "network_ms": (low, high)},
        "source": OSTRACK_2060.source,
    }
    return {"published": published, "projected": cases}


def print_report(
    bundle: Bundle, projections: Sequence[Projection], measured: Measured | None, console: Console
) -> None:
    """The three kinds, the back-test, the legend."""
    said = "no GPU's layers were given (--measured)"
    if measured is not None:
        said = f"{measured.ms:.3f} ms, sum of the layers, {CARDS[measured.card].name}, {measured.precision}"
    console.print(f"measured: {said}", highlight=False)
    figure = published_figure(bundle)
    said = f"no figure for the network of {bundle.name}"
    if figure is not None:
        said = (
            f"{figure.model} {figure.fps:g} FPS ({1e3 / figure.fps:.1f} ms), {figure.device}, {figure.scope}"
        )
    console.print(f"published: {said}\n", highlight=False)
    console.print(_projections(bundle, projections))
    console.print(_launches(projections) + "\n", highlight=False)
    console.print(_errors())
    inside = [tested.inside for tested in back_test() if tested.origin is None]
    pairs = sum(tested.origin is not None for tested in back_test())
    console.print(
        f"{sum(inside)} of {len(inside)} points lie in the interval that was projected without their GPU; for"
        f" nine tenths its ends would have to be {widening():.2f} times as far out. {pairs} pairs are off by"
        f" {pairs_residual():.0%} (root mean square; waves {pairs_residual(by_waves=True):.0%})\n",
        highlight=False,
    )
    console.print(_frame())
    console.print()
    console.print(LEGEND, highlight=False)


def _projections(bundle: Bundle, projections: Sequence[Projection]) -> Table:
    table = titled_table(
        f"Projected: {bundle.name} on {projections[0].card}, network alone, TensorRT", padding=NARROW
    )
    table.add_column("precision")
    for column in ("sums", "time", "interval", "a second"):
        table.add_column(column, no_wrap=True)
    for found in projections:
        time = found.interval
        table.add_row(
            found.precision + (f" from {found.origin}" if found.origin else ""),
            "fp32" if found.fp32_sums else "fp16",
            f"projected {_ms(time.ms)}",
            f"projected {_ms(time.low, time.high)}",
            f"projected {1e3 / time.high:.0f}-{1e3 / time.low:.0f}",
        )
    return table


def _launches(projections: Sequence[Projection]) -> str:
    shares = [found.launches for found in projections]
    text = f"launching kernels takes {min(shares):.0%} to {max(shares):.0%} of the projected time"
    if max(shares) > 0.5:
        text += ": the products hardly count, and nothing like it was tested; trust the order of magnitude"
    return text


def _errors() -> Table:
    table = titled_table(
        "Error on published points, each GPU left out of the fit, milliseconds", padding=NARROW
    )
    for column in ("network", "by", "GPU"):
        table.add_column(column, no_wrap=True)
    for column in ("published", "projected", "from", "error", "waves"):
        table.add_column(column, justify="right", no_wrap=True)
    for tested in back_test():
        point = tested.point
        waves = "" if tested.by_waves is None else f"{tested.by_waves / point.ms - 1:+.0%}"
        table.add_row(
            f"{point.network} {point.precision}",
            _SHORT[point.library],
            point.card.upper(),
            f"{point.ms:.2f}",
            f"projected {tested.projected:.2f}",
            tested.origin.card.upper() if tested.origin else "alone",
            f"{tested.error:+.0%}",
            waves,
        )
    return table


def _frame() -> Table:
    frame = held_out_frame()
    published = frame["published"]
    low, high = published["network_ms"]
    host = "-".join(f"{ms:g}" for ms in published["host_ms"])
    table = titled_table(
        f"{published['network']}: published {published['fps']} FPS ({published['source']}), less {host} ms"
        f" of the host (estimate): {_ms(low, high)} for the network",
        padding=NARROW,
    )
    for column in ("card", "sums", "time", "interval", "holds it"):
        table.add_column(column, no_wrap=True)
    for case in frame["projected"]:
        table.add_row(
            case["card"],
            case["sums"],
            f"projected {_ms(case['ms'])}",
            f"projected {_ms(case['low_ms'], case['high_ms'])}",
            "yes" if case["brackets"] else "no",
        )
    return table


def _tested(tested: Tested) -> dict[str, Any]:
    point = tested.point
    return {
        **{"network": point.network, "precision": point.precision, "library": point.library},
        **{"card": CARDS[point.card].name, "published_ms": point.ms, "source": point.source},
        "from": CARDS[tested.origin.card].name if tested.origin else None,
        "projected_ms": tested.projected,
        "error": tested.error,
        "wave_scaling_ms": tested.by_waves,
        "inside": tested.inside if tested.interval else None,
    }


def _ms(*values: float) -> str:
    return "-".join(f"{value:.2f}" for value in values) + " ms"
