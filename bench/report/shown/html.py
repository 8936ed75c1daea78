"""A report as one HTML file: no script, nothing loaded from elsewhere, light and dark, phone and desk."""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import count
from pathlib import Path

from jntrt.bench.report.shown.blocks import Block, Chart, Folded, Heading, Table, Text
from jntrt.bench.report.shown.charts import svg

# The browser refuses whatever else the page would ask for.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def page(title: str, blocks: Sequence[Block]) -> str:
    """The whole page."""
    numbers = count(1)
    body = "".join(_rendered(block, numbers) for block in blocks)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _rendered(block: Block, numbers: Iterator[int]) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Chart):
        picture = svg(block.specification, f"chart{next(numbers)}")
        return f"<figure>{picture}<figcaption>{escape(block.caption)}</figcaption></figure>"
    if isinstance(block, Folded):
        inside = "".join(_rendered(inner, numbers) for inner in block.blocks)
        return f"<details><summary>{escape(block.title)}</summary>{inside}</details>"
    return _table(block)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    kind = "table words" if table.columns[-1] in ("why", "") else "table"
    return (
        f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}'
    )
