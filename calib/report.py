"""The calibration's HTML page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from jntrt.calib.plots import bars, histogram, ranges
from jntrt.runtime.engines.precision import find_precision

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1b1f24}
table{border-collapse:collapse;margin:.6em 0}
td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.ok{color:#176f2c}.bad{color:#b3261e}
svg{background:#fafafa;border:1px solid #ddd;margin:.2em;max-width:100%}
figure{display:inline-block;margin:.3em}
figcaption{font-size:12px;color:#555}h2{margin-top:2em}code{font-size:13px}
"""


def page(
    name: str, precisions: Mapping[str, Mapping[str, Any]], refused: Mapping[str, Mapping[str, Any]]
) -> str:
    """The whole page: a bundle's precisions and those that were refused, as calibration.json has them."""
    sections = "".join(_section(precision, entry) for precision, entry in precisions.items())
    sections += "".join(_section(precision, entry, refused=True) for precision, entry in refused.items())
    title = f"Calibration of {escape(name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{sections}</body></html>\n"
    )


def _section(precision: str, entry: Mapping[str, Any], refused: bool = False) -> str:
    gate = entry["gate"]
    verdict = '<b class="ok">passed its gate</b>'
    if not gate["passed"]:
        said = "refused by its gate, no graph was written" if refused else "failed its gate"
        verdict = f'<b class="bad">{said}</b>: {escape("; ".join(gate["failures"]))}'
    chosen = f"{entry['crops']} crops, seed {entry['seed']}"
    if entry["ranges"]:
        chosen += f", ranges by {escape(entry['method'])}, weights of {entry['weight_bits']} bits"
    title = f"{escape(precision)} (refused)" if refused else escape(precision)
    parts = [f"<h2>{title}</h2><p>{verdict}. Judged in: {escape(gate['engine'])}; {chosen}.</p>"]
    parts.append(_gate_table(gate))
    if entry["ranges"]:
        parts.append(
            f"<p>{gate['int8_share']:.0%} of the multiply-accumulates in int8; kept out: "
            f"{escape(', '.join(entry['kept'])) or 'none'}</p>"
        )
    if entry["sensitivity"]:
        items = [(item["place"], item["error"]) for item in entry["sensitivity"][:12]]
        parts.append("<h3>What single layers cost</h3>" + bars(items, _cost_axis(entry), "{:.3g}"))
    if entry["ranges"]:
        largest = {name: seen["largest"] for name, seen in entry["observed"].items()}
        parts.append(
            "<h3>Activation ranges</h3><p>What int8 quantises, in the graph's order. Dot: the range, "
        )
        parts.append("clipped beyond; red: the largest value seen.</p>" + ranges(entry["ranges"], largest))
    if entry["histograms"]:
        parts.append("<h3>The ten distributions that int8 would lose most of</h3>")
        parts += [histogram(name, h, entry["ranges"].get(name)) for name, h in entry["histograms"].items()]
    near = sorted(entry["peaks"].items(), key=lambda item: -item[1])[:10]
    if find_precision(precision).fp16:
        axis = "largest magnitude seen (no unit; float16 ends at 65504)"
        parts.append("<h3>Largest values</h3>" + bars(near, axis, "{:.4g}"))
        parts.append(f"<p>In float32: <code>{escape(', '.join(entry['float32'][:60]))}</code></p>")
    return "".join(parts)


def _cost_axis(entry: Mapping[str, Any]) -> str:
    if not entry["ranges"]:
        return "relative error of the layer's result in float16 (1: as large as the result)"
    if entry["gate"]["clipped"]:
        return "share of the values beyond the range (1: all)"
    return "loss of IoU, score and kept tokens with this layer alone in int8 (0: none)"


def _gate_table(gate: Mapping[str, Any]) -> str:
    crops, sequences, thresholds = gate["crops"], gate["sequences"], gate["thresholds"]
    rows = [
        ("median IoU of boxes (0 … 1)", f"{crops['median_iou']:.4f}", f"≥ {thresholds['median_iou']:g}"),
        ("5th percentile of IoU", f"{crops['p5_iou']:.4f}", ""),
        ("score difference (0 … 1), mean", f"{crops['score_mean']:.4f}", ""),
        ("score difference (0 … 1), largest", f"{crops['score_max']:.4f}", ""),
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
