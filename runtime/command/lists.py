"""Comma lists, as every command takes them: `10,20,30,40`."""

import math

from jntrt.runtime.errors import UserError


def parse_words(text: str) -> list[str]:
    """The words of a comma list such as `fp32,int8`; none of an empty one."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_numbers(text: str, flag: str, count: int | None = None) -> tuple[float, ...]:
    """The finite numbers of a comma list such as `10,20,30,40`, `count` of them; UserError names the flag."""
    expected = "numbers" if count is None else f"{count} numbers"
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{flag} {text}: not {expected} separated by commas") from None
    if count is not None and len(values) != count:
        raise UserError(f"{flag} {text}: {len(values)} given, needs {expected} separated by commas")
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"{flag} {text}: the numbers have to be finite")
    return values


def parse_integers(text: str, flag: str, count: int | None = None) -> tuple[int, ...]:
    """The whole numbers of a comma list such as `3,6,9`, `count` of them; UserError names the flag."""
    values = parse_numbers(text, flag, count)
    if any(value != int(value) for value in values):
        raise UserError(f"{flag} {text}: needs whole numbers separated by commas")
    return tuple(int(value) for value in values)


def parse_box(text: str, flag: str) -> tuple[float, float, float, float]:
    """A box `x,y,w,h` in pixels; UserError where it is not four numbers or has no area."""
    x, y, w, h = parse_numbers(text, flag, 4)
    if w <= 0 or h <= 0:
        raise UserError(f"{flag} {text}: width and height have to be above 0 (the order is x,y,w,h)")
    return x, y, w, h
