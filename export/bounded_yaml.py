"""A plain part of YAML, bounded: tables, lists, text, numbers, yes and no.

What strangers' files do with the rest of the language (tags that build objects, aliases that multiply,
numbers to the base of 60, dates) has no use in a recipe. PyYAML only splits the file into its parts here;
what a part means is decided below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jntrt.runtime.errors import UserError

MAX_BYTES = 256 << 10
MAX_PARTS = 50_000
MAX_DEPTH = 16
MAX_TEXT = 1000  # characters

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null"), None),
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,14})")
_NUMBER = re.compile(r"[-+]?([0-9]{1,15}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][-+]?[0-9]{1,2})?")


def read_table(path: Path, flag: str) -> dict[str, Any]:
    """The table in the YAML file at `path`; messages call the file by its `flag`.

    Raises `UserError` for a file that is missing, too large, no YAML, or more of it than is read here.
    """
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{flag} {path}: larger than {MAX_BYTES >> 10} kB; is it a recipe?")
        events = _events(yaml.parse(content.decode(), yaml.SafeLoader))
        first = next(events, None)
        value = None if first is None else _value(first, events, MAX_DEPTH)
        for _ in events:  # what follows the table is looked at too
            pass
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{flag} {path}: no YAML: {' '.join(str(error).split())[:160]}") from None
    except _Refused as refusal:
        raise UserError(f"{flag} {path}: {refusal}; write it out plainly") from None
    if not isinstance(value, dict):
        raise UserError(f"{flag} {path}: no table in it")
    return value


class _Refused(Exception):
    """More than the plain part of YAML, and where."""


def _events(events: Iterator[Any]) -> Iterator[Any]:
    """The parser's events without the stream's and the document's frames."""
    import yaml

    documents = 0
    for count, event in enumerate(events):
        line = _line(event)
        if count > MAX_PARTS:
            raise _Refused(f"more than {MAX_PARTS} parts")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Refused(f"line {line}: a second document")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(f"line {line}: an anchor or alias")
        if getattr(event, "tag", None) is not None:
            raise _Refused(f"line {line}: a tag")
        if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            yield event


def _value(event: Any, events: Iterator[Any], depth: int) -> Any:
    import yaml

    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event)
    line = _line(event)
    if not depth:
        raise _Refused(f"line {line}: tables in tables deeper than {MAX_DEPTH}")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        for inner in events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            items.append(_value(inner, events, depth - 1))
        return items
    table: dict[str, Any] = {}
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            break
        # A key is text, whatever it looks like.
        if not isinstance(key, yaml.ScalarEvent) or len(key.value) > MAX_TEXT:
            raise _Refused(f"line {line}: a key that is no short text")
        if key.value in table:
            raise _Refused(f"line {_line(key)}: {key.value!r:.60} for the second time")
        table[key.value] = _value(next(events), events, depth - 1)
    return table


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _scalar(event: Any) -> str | int | float | bool | None:
    text: str = event.value
    if len(text) > MAX_TEXT:
        raise _Refused(f"line {_line(event)}: a text of more than {MAX_TEXT} characters")
    if event.style is not None:  # in quotes, or a block of text
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
