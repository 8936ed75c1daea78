"""The drawings of the calibration's page, as SVG: every axis has its name, ticks and unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_BLUE, _RED, _GREY = "#4a7ab5", "#b3261e", "#ddd"
_NAMES, _WIDTH, _ROW = 300, 860, 18  # pixels: of the names' column, of a drawing, of a row


def bars(items: Sequence[tuple[str, float]], axis: str, form: str) -> str:
    """Horizontal bars from zero, one a row, with their names and values; `axis` says what they measure."""
    top = max((value for _, value in items if math.isfinite(value)), default=0.0) or 1.0
    length = _WIDTH - _NAMES - 90
    marks = []
    for row, (name, value) in enumerate(items):
        y = _ROW * row + 4
        width = length * min(1.0, max(0.0, value / top)) if math.isfinite(value) else length
        marks.append(_text(_NAMES - 6, y + 11, name, "end"))
        marks.append(f'<rect x="{_NAMES}" y="{y}" width="{width:.1f}" height="13" fill="{_BLUE}"/>')
        marks.append(_text(_NAMES + width + 5, y + 11, form.format(value)))
    height = _ROW * len(items) + 8
    marks.append(_text(_NAMES, height + 14, f"0 … {form.format(top)}: {axis}"))
    return _svg(_WIDTH, height + 22, marks)


def ranges(chosen: Mapping[str, float], largest: Mapping[str, float]) -> str:
    """Range (dot) and largest value seen (tick) of every activation, one a row, in the graph's order."""
    positive = [v for values in (chosen, largest) for v in values.values() if v > 0]
    low, high = math.log10(min(positive)) - 0.1, math.log10(max(positive)) + 0.1
    height = _ROW * len(chosen) + 8

    def x(value: float) -> float:
        return _NAMES + (math.log10(value) - low) / (high - low) * (_WIDTH - _NAMES - 20)

    marks = []
    for tick in _decades(low, high):
        line = x(tick)
        marks.append(f'<path d="M{line:.1f} 0V{height}" stroke="{_GREY}"/>')
        marks.append(_text(line, height + 13, f"{tick:g}", "middle"))
    for row, (name, value) in enumerate(chosen.items()):
        y = _ROW * row + 12
        marks.append(_text(_NAMES - 6, y + 4, name, "end"))
        if (end := largest.get(name, 0.0)) > 0:
            marks.append(f'<path d="M{x(end):.1f} {y - 5}v10" stroke="{_RED}" stroke-width="2"/>')
        title = f"<title>{escape(name)}: range {value:.4g}, largest {end:.4g}</title>"
        marks.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="3.5" fill="{_BLUE}">{title}</circle>')
    marks.append(_text(_NAMES, height + 30, "magnitude of the activation (no unit), logarithmic"))
    return _svg(_WIDTH, height + 38, marks)


def histogram(name: str, seen: Mapping[str, Any], chosen: float | None) -> str:
    """Counts of magnitudes, logarithmic; the line is the range."""
    counts, limit = seen["counts"], seen["limit"] or 1.0
    used = max(1, math.ceil(seen["largest"] / limit * len(counts)))
    end = limit * used / len(counts)
    left, bottom, width, height = 52, 128, 360, 110
    top = max(1.0, math.log10(1 + max(counts[:used])))
    step = width / used
    marks = []
    for power in range(0, math.floor(top) + 1, max(1, math.ceil(top / 4))):
        y = bottom - power / top * height
        marks.append(f'<path d="M{left} {y:.1f}h{width}" stroke="{_GREY}"/>')
        marks.append(_text(left - 4, y + 4, f"{10**power:,}" if power < 4 else f"1e{power}", "end"))
    for column, count in enumerate(counts[:used]):
        tall = math.log10(1 + count) / top * height
        marks.append(
            f'<rect x="{left + column * step:.1f}" y="{bottom - tall:.1f}" '
            f'width="{max(step - 0.3, 0.5):.1f}" height="{tall:.1f}" fill="{_BLUE}"/>'
        )
    for part in (0.0, 0.5, 1.0):
        marks.append(_text(left + part * width, bottom + 14, f"{part * end:.3g}", "middle"))
    marks.append(_text(left + width / 2, bottom + 28, "magnitude (no unit)", "middle"))
    marks.append(_text(left, 12, "values in a bin, logarithmic"))
    caption = f"{escape(name)}: largest {seen['largest']:.4g}"
    if chosen is not None:
        x = left + min(chosen / end, 1.0) * width
        marks.append(f'<path d="M{x:.1f} 16V{bottom}" stroke="{_RED}" stroke-width="2"/>')
        caption += f", range {chosen:.4g} (red)"
    return f"<figure>{_svg(left + width + 16, bottom + 34, marks)}<figcaption>{caption}</figcaption></figure>"


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 … between two logarithms; powers of ten alone where those would crowd."""
    steps = (1, 2, 5) if high - low < 4 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [d * 10.0**p for p in powers for d in steps if low <= math.log10(d * 10.0**p) <= high]


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, marks: Sequence[str]) -> str:
    return f'<svg width="{width:.0f}" height="{height:.0f}" font-size="11">{"".join(marks)}</svg>'
