"""The calibration's HTML page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1b1f24}
table{border-collapse:collapse;margin:.6em 0}
td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.ok{color:#176f2c}.bad{color:#b3261e}
svg{background:#fafafa;border:1px solid #ddd;margin:.2em}figure{display:inline-block;margin:.3em}
figcaption{font-size:12px;color:#555}h2{margin-top:2em}code{font-size:13px}
"""
_WIDTH, _HEIGHT = 420, 120


def page(name: str, precisions: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page for a bundle's calibrated precisions (as calibration.json has them)."""
    sections = "".join(_section(precision, entry) for precision, entry in precisions.items())
    title = f"Calibration of {escape(name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{sections}</body></html>\n"
    )


def _section(precision: str, entry: Mapping[str, Any]) -> str:
    gate = entry["gate"]
    verdict = (
        '<b class="ok">passed its gate</b>' if gate["passed"] else '<b class="bad">failed its gate</b>: '
    )
    verdict += escape("; ".join(gate["failures"]))
    chosen = f"{entry['crops']} crops, seed {entry['seed']}"
    if entry["ranges"]:
        chosen += f", ranges by {escape(entry['method'])}, weights of {entry['weight_bits']} bits"
    parts = [f"<h2>{escape(precision)}</h2><p>{verdict} ({escape(gate['engine'])}); {chosen}</p>"]
    parts.append(_gate_table(gate))
    if entry["ranges"]:
        parts.append(
            f"<p>{gate['int8_share']:.0%} of the Linear MACs in int8; kept out: "
            f"{escape(', '.join(entry['kept'])) or 'none'}</p>"
        )
        parts.append("<h3>Activation ranges</h3>" + _ranges_plot(entry))
    if entry["sensitivity"]:
        items = [(item["place"], item["error"]) for item in entry["sensitivity"][:12]]
        parts.append("<h3>What single layers cost</h3>" + _bars(items, "{:.3g}"))
    if entry["histograms"]:
        parts.append("<h3>The ten worst distributions</h3>")
        parts.append("<p>Magnitudes, logarithmic counts; the line is the range.</p>")
        parts += [_histogram(name, h, entry["ranges"].get(name)) for name, h in entry["histograms"].items()]
    near = sorted(entry["peaks"].items(), key=lambda item: -item[1])[:10]
    if precision.endswith("fp16"):
        parts.append("<h3>Largest values (float16 ends at 65504)</h3>" + _bars(near, "{:.4g}"))
        parts.append(f"<p>In float32: <code>{escape(', '.join(entry['float32'][:60]))}</code></p>")
    return "".join(parts)


def _gate_table(gate: Mapping[str, Any]) -> str:
    crops, sequences, thresholds = gate["crops"], gate["sequences"], gate["thresholds"]
    rows = [
        ("median IoU of boxes", f"{crops['median_iou']:.4f}", f"≥ {thresholds['median_iou']:g}"),
        ("5th percentile of IoU", f"{crops['p5_iou']:.4f}", ""),
        ("score difference, mean", f"{crops['score_mean']:.4f}", ""),
        ("score difference, largest", f"{crops['score_max']:.4f}", ""),
    ]
    rows += [(f"same tokens in {name}", f"{v:.1%}", "") for name, v in crops["kept"].items()]
    if sequences:
        interval = ""
        if sequences["low"] is not None:
            interval = f" ({sequences['low']:+.4f} … {sequences['high']:+.4f})"
        rows.append(("AO in fp32", f"{sequences['ao_fp32']:.4f}", f"{sequences['sequences']} sequences"))
        rows.append(
            ("AO difference (95 %)", f"{sequences['difference']:+.4f}{interval}", f"± {thresholds['ao']:g}")
        )
    body = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f"<table><tr><th>on {crops['crops']} held-back crops</th><th></th><th>must be</th></tr>{body}</table>"
    )


def _bars(items: Sequence[tuple[str, float]], form: str) -> str:
    """Horizontal bars with their names and values."""
    top = max((value for _, value in items if math.isfinite(value)), default=0.0) or 1.0
    height = 18 * len(items) + 6
    lines = []
    for row, (name, value) in enumerate(items):
        y = 18 * row + 4
        width = 260 * min(1.0, max(0.0, value / top)) if math.isfinite(value) else 260
        lines.append(
            f'<text x="225" y="{y + 11}" text-anchor="end" font-size="11">{escape(name)}</text>'
            f'<rect x="230" y="{y}" width="{width:.1f}" height="13" fill="#4a7ab5"/>'
            f'<text x="{235 + width:.1f}" y="{y + 11}" font-size="11">{escape(form.format(value))}</text>'
        )
    return f'<svg width="580" height="{height}" viewBox="0 0 580 {height}">{"".join(lines)}</svg>'


def _ranges_plot(entry: Mapping[str, Any]) -> str:
    """Chosen range (dot) and largest value (tick) of every activation, log scale, in the graph's order."""
    names = list(entry["ranges"])
    values = [(entry["ranges"][n], entry["observed"].get(n, {}).get("largest", 0.0)) for n in names]
    positive = [v for pair in values for v in pair if v > 0]
    low, high = math.log10(min(positive)) - 0.1, math.log10(max(positive)) + 0.1
    width, height = 860, 200
    step = (width - 60) / max(1, len(names))

    def y(value: float) -> float:
        return height - 20 - (math.log10(value) - low) / (high - low) * (height - 35)

    marks = []
    ticks = [d * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for d in (1, 2, 5)]
    for tick in (t for t in ticks if low <= math.log10(t) <= high):
        line = y(tick)
        marks.append(
            f'<line x1="50" x2="{width - 5}" y1="{line:.1f}" y2="{line:.1f}" stroke="#ddd"/>'
            f'<text x="45" y="{line + 4:.1f}" text-anchor="end" font-size="11">{tick:g}</text>'
        )
    for column, (name, (chosen, largest)) in enumerate(zip(names, values, strict=True)):
        x = 55 + step * (column + 0.5)
        if largest > 0:
            end = y(largest)
            marks.append(
                f'<line x1="{x - 3:.1f}" x2="{x + 3:.1f}" y1="{end:.1f}" y2="{end:.1f}" stroke="#b3261e"/>'
            )
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y(chosen):.1f}" r="3" fill="#4a7ab5">'
            f"<title>{escape(name)}: {chosen:.4g} of {largest:.4g}</title></circle>"
        )
    caption = "<figcaption>dot: range, red: largest value seen; layers from left to right</figcaption>"
    return f'<figure><svg width="{width}" height="{height}">{"".join(marks)}</svg>{caption}</figure>'


def _histogram(name: str, histogram: Mapping[str, Any], chosen: float | None) -> str:
    counts, limit = histogram["counts"], histogram["limit"] or 1.0
    used = max(1, math.ceil(histogram["largest"] / limit * len(counts)))
    heights = [math.log10(1 + count) for count in counts[:used]]
    top = max(heights) or 1.0
    step = (_WIDTH - 20) / used
    bars = "".join(
        f'<rect x="{10 + i * step:.1f}" y="{_HEIGHT - 10 - h / top * (_HEIGHT - 25):.1f}" '
        f'width="{max(step - 0.3, 0.5):.1f}" height="{h / top * (_HEIGHT - 25):.1f}" fill="#4a7ab5"/>'
        for i, h in enumerate(heights)
    )
    line = ""
    if chosen is not None:
        x = 10 + min(chosen / (limit * used / len(counts)), 1.0) * (_WIDTH - 20)
        line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="5" y2="{_HEIGHT - 10}" stroke="#b3261e"/>'
    caption = f"{escape(name)}: largest {histogram['largest']:.4g}" + (
        f", range {chosen:.4g}" if chosen else ""
    )
    return (
        f'<figure><svg width="{_WIDTH}" height="{_HEIGHT}">{bars}{line}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
