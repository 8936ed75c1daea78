"""What a report is made of, before it is HTML or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; what is to be known of it stands in `note`, below."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification (HTML alone) and what it shows, in words."""

    specification: dict[str, Any]
    caption: str


@dataclass(frozen=True)
class Folded:
    """Blocks that are opened by a click; Markdown shows them under the title."""

    title: str
    blocks: Sequence["Block"] = field(default_factory=tuple)


Block = Heading | Text | Table | Chart | Folded
