"""How the bench's tables look on a terminal."""

from typing import Any

from rich import box
from rich.table import Table

WIDTH = 80


def titled_table(title: str, *columns: str, **options: Any) -> Table:
    """A table under its title, `WIDTH` wide unless rich's `options` say otherwise.

    columns: the first is folded where it is long, the others hold figures; none: the caller adds them.
    """
    about: dict[str, Any] = {"width": WIDTH, "box": box.SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
    table = Table(title=title, title_justify="left", **about | options)
    for name in columns[:1]:
        table.add_column(name, overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table
