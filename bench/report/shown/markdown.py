"""A report as Markdown: its words and tables; charts are in the HTML alone."""

from collections.abc import Iterator, Sequence

from jntrt.bench.report.shown.blocks import Block, Chart, Folded, Heading, Table, Text


def text(title: str, blocks: Sequence[Block]) -> str:
    """The whole document."""
    return "\n\n".join([f"# {_plain(title)}", *_rendered(blocks, 2)]) + "\n"


def _rendered(blocks: Sequence[Block], level: int) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Heading):
            yield "#" * level + " " + _plain(block.text)
        elif isinstance(block, Text):
            yield _plain(block.text)
        elif isinstance(block, Folded):
            yield "#" * (level + 1) + " " + _plain(block.title)
            yield from _rendered(block.blocks, level + 1)
        elif not isinstance(block, Chart):
            yield _table(block)
            if block.note:
                yield _plain(block.note)


def _table(table: Table) -> str:
    rows = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows)


def _plain(words: str) -> str:
    """Nothing in a name can become Markdown or HTML."""
    for sign in "\\`*_[]<>|#":
        words = words.replace(sign, "\\" + sign)
    return " ".join(words.split())
