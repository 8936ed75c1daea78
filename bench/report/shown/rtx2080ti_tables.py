"""The RTX 2080 Ti in a report: three kinds of figures, each cell marked as what it is."""

from collections.abc import Iterator, Mapping
from typing import Any

from jntrt.bench.report.shown.blocks import Block, Folded, Heading, Table
from jntrt.bench.report.shown.words import fps_of, short, time_of

Document = Mapping[str, Any]


def rtx2080ti_blocks(document: Document) -> Iterator[Block]:
    """Published and projected rows, this report's own where it ran there, and how wrong the projection is."""
    section = document["rtx2080ti"]
    yield Heading("RTX 2080 Ti")
    body = []
    for row in section["rows"]:
        low, high = row["low_ms"], row["high_ms"]
        ms = time_of(low) if low == high else f"{time_of(low)} … {time_of(high)}"
        fps = fps_of(low) if low == high else f"{fps_of(high)} … {fps_of(low)}"
        said = "measured here" if row["kind"] == "measured" else row["kind"]
        figures = (f"{said} {ms}", f"{said} {fps}")
        body.append((f"{said}: {short(row['what'])}", *figures, row["device"], row["scope"]))
    yield Table(
        ("network", "ms", "FPS", "device", ""),
        body,
        "Published: other people's figure, in their scope, on their machine. Projected: computed, measured by"
        " nobody; its interval is over fits that leave one GPU out, widened by what published points scatter"
        " (90 %). Measured here: this report's own, on a machine with the card. They are not to be mixed.",
    )
    errors = [
        (
            *(f"{row['network']} {row['precision']}", row["library"], row["card"]),
            *(f"published {time_of(row['published_ms'])}", f"projected {time_of(row['projected_ms'])}"),
            *(row["from"] or "its products", f"{row['error']:+.0%}"),
        )
        for row in section["back_test"]
    ]
    columns = ("network", "by", "GPU", "ms", "ms", "from", "error")
    frame = section["held_out"]
    held = [
        (
            *(
                case["card"],
                case["sums"],
                f"projected {time_of(case['low_ms'])} … {time_of(case['high_ms'])}",
            ),
            "yes" if case["brackets"] else "no",
        )
        for case in frame["projected"]
    ]
    published = frame["published"]
    low, high = published["network_ms"]
    yield Folded(
        "How wrong the projection is",
        (
            Table(columns, errors, "Each GPU left out of the fit; +10 %: projected too slow."),
            Table(
                ("card", "sums", "ms", "holds it"),
                held,
                f"{published['network']}: published {published['fps']} FPS of the whole frame, less the"
                f" host's share: {time_of(low)} … {time_of(high)} ms for the network; no fit has seen it.",
            ),
        ),
    )
