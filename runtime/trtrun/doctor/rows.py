"""A line of the report, and how it is printed."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WIDTH = 80
_NAME = 22  # columns of a row's name, states take seven

# ok: works. absent: is not here, and nothing is wrong with that. old: here, and too old for something.
# broken: here, and does not work.
State = Literal["ok", "absent", "old", "broken"]


@dataclass(frozen=True)
class Row:
    """`detail` says what was found, `remedy` the command that mends it, `facts` the same for machines."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def lines(row: Row) -> list[str]:
    """The row as text of at most 80 columns where its words allow it."""
    indent = " " * (_NAME + 9)
    head = f"{row.state:<7} {row.name:<{_NAME}} "
    written = textwrap.wrap(head + row.detail, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    if row.remedy:
        written += textwrap.wrap(
            row.remedy,
            WIDTH,
            initial_indent=f"{indent}→ ",
            subsequent_indent=f"{indent}  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    return written
