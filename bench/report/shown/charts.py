"""The charts of a report: Vega-Lite specifications, rendered to SVG that follows the page's colours."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jntrt.bench.accuracy.baselines import STATIC

WIDTH = 370  # pixels of the plot; a phone shows it a little smaller, a desk a little larger
# They differ for the colour-blind as well, and stand out from white and from near-black.
COLOURS = ("#3b8fd6", "#e08a00", "#1fa37a", "#cf6fa5", "#d9532c", "#8f7be0", "#8c8c8c")
_INK = {"labelColor": "currentColor", "titleColor": "currentColor"}
_CONFIG = {
    "background": None,
    # A browser's font may be wider than the one that the labels were measured in.
    "padding": {"left": 30, "right": 14, "top": 6, "bottom": 6},
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        **_INK,
        **{key: "currentColor" for key in ("domainColor", "tickColor", "gridColor")},
        **{"gridOpacity": 0.15, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    },
    "legend": {
        **_INK,
        **{"labelFontSize": 12, "titleFontSize": 12, "orient": "bottom", "columns": 3, "labelLimit": 260},
        **{"symbolOpacity": 1, "layout": {"bottom": {"direction": "vertical", "anchor": "start"}}},
    },
    "header": {**_INK, "labelFontSize": 11, "labelLimit": 190},
    "title": {"color": "currentColor", "fontSize": 13, "anchor": "start"},
    "range": {"category": list(COLOURS)},
    "text": {"color": "currentColor", "fontSize": 12},
    "rule": {"color": "currentColor"},
}
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "stroke")
_INKED = {"symbolFillColor": "currentColor", "symbolStrokeColor": "currentColor"}  # of a legend
_THIN = 80  # points of a time series that are drawn
Rows = Sequence[Mapping[str, Any]]


def svg(specification: Mapping[str, Any], name: str) -> str:
    """The chart as an SVG element whose ids begin with `name`, black parts in the page's colour."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg({**specification, "config": _CONFIG}, vl_version="5.20")
    drawn = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", drawn)
    return re.sub(r'^<svg [^>]*?width="(\d+)" height="(\d+)"', _resizable, drawn, count=1)


def _resizable(found: re.Match[str]) -> str:
    return found[0][: found[0].index(' width="')] + f' style="aspect-ratio:{found[1]}/{found[2]}"'


def _axis(name: str, title: str, **more: Any) -> dict[str, Any]:
    return {"field": name, "type": "quantitative", "title": title, **more}


def _log(values: Sequence[float], title: str, name: str) -> dict[str, Any]:
    low, high = min(values), max(values)
    return _axis(name, title, scale={"type": "log", "domain": [low / 1.25, high * 1.25], "nice": False})


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 and their tens within a domain; of a wide one the tens alone, whose labels have room."""
    ticks = [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) <= 6 else inside[::3] if high / low > 1e3 else inside[::2]


def tradeoff(rows: Rows) -> dict[str, Any]:
    """AO against FPS; rows: name, bundle, precision, kind, fps, ao, ao_low, ao_high.

    The static box, whose speed is nobody's, is a line.
    """
    known = [row for row in rows if row["ao"] is not None and row["fps"]]
    static = [row for row in known if row["name"] == STATIC]
    shown = [
        {**row, "group": "classical" if row["kind"] == "classical" else row["bundle"]}
        for row in known
        if row not in static
    ]
    groups = list(dict.fromkeys(row["group"] for row in shown))
    kinds = [kind for kind in dict.fromkeys(row["precision"] for row in shown) if kind != "none"]
    colours = [COLOURS[-1] if g == "classical" else COLOURS[k % 6] for k, g in enumerate(groups)]
    colour = {
        **{"field": "group", "type": "nominal", "title": None},
        "scale": {"domain": groups, "range": colours},
    }
    shape = {
        **{"field": "precision", "type": "nominal", "title": None},
        "scale": {"domain": [*kinds, "none"], "range": [*_SHAPES[: len(kinds)], "cross"]},
        "legend": {"values": kinds, **_INKED},
    }
    x = _log([row["fps"] for row in shown], "speed, update alone (frames per second, logarithmic)", "fps")
    x["axis"] = {"values": _ticks(*x["scale"]["domain"]), "format": "~s"}
    top = max(row["ao_high"] or row["ao"] for row in known)
    y = _axis("ao", "AO, mean overlap (0 … 1)", scale={"domain": [0, min(1.0, top * 1.08)]})
    return {
        "width": WIDTH,
        "height": 300,
        "layer": [
            {
                "data": {"values": static},
                "mark": {"type": "rule", "strokeDash": [4, 3]},
                "encoding": {"y": y},
            },
            {
                "data": {"values": static},
                "mark": {"type": "text", "align": "left", "dx": 4, "dy": -7},
                "encoding": {"y": y, "x": {"value": 0}, "text": {"value": "static box"}},
            },
            {
                "data": {"values": [row for row in shown if row["ao_low"] is not None]},
                "mark": {"type": "rule", "opacity": 0.45},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": "ao_low"},
                    "y2": {"field": "ao_high"},
                    "color": colour,
                },
            },
            {
                "data": {"values": shown},
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour, "shape": shape},
            },
            {
                "data": {"values": [row for row in shown if row["kind"] == "classical"]},
                "mark": {"type": "text", "dx": 8, "align": "left"},
                "encoding": {"x": x, "y": y, "text": {"field": "bundle"}},
            },
        ],
    }


def distribution(engines: Rows) -> dict[str, Any]:
    """Where the frames of each engine lie: thin line 5 to 95 %, thick 25 to 75 %, dot the median."""
    import numpy as np

    rows = []
    for engine in engines:
        low, quarter, middle, most, high = np.percentile(engine["frames_ms"], [5, 25, 50, 75, 95])
        rows.append(
            {"label": engine["label"], "bundle": engine["bundle"]}
            | {"low": low, "quarter": quarter, "middle": middle, "most": most, "high": high}
        )
    y = {
        "field": "label",
        "type": "nominal",
        "title": None,
        "sort": None,
        "axis": {"labelLimit": 190, "domain": False, "ticks": False},
    }
    x = _log([row[key] for row in rows for key in ("low", "high")], "one update (ms, logarithmic)", "low")
    colour = {"field": "bundle", "type": "nominal", "legend": None, "sort": None}
    return {
        "width": WIDTH - 140,
        "height": {"step": 24},
        "data": {"values": rows},
        "encoding": {"y": y, "color": colour},
        "layer": [
            {"mark": {"type": "rule"}, "encoding": {"x": x, "x2": {"field": "high"}}},
            {
                "mark": {"type": "bar", "height": 9},
                "encoding": {"x": {**x, "field": "quarter"}, "x2": {"field": "most"}},
            },
            {
                "mark": {"type": "tick", "thickness": 3, "size": 15, "color": "currentColor"},
                "encoding": {"x": {**x, "field": "middle"}, "color": {"value": "currentColor"}},
            },
        ],
    }


def series(engines: Rows) -> dict[str, Any]:
    """Every engine's frames in the run's order, over its median, and each round's median."""
    import numpy as np

    rows = []
    for engine in engines:
        middle = float(np.median(engine["frames_ms"]))
        frames = np.asarray(engine["frames_ms"])
        every = max(1, frames.size // _THIN)
        for k in range(0, frames.size, every):
            number, index = divmod(k, frames.shape[1])
            second = engine["rounds"][number]["second"] + index * middle / 1e3
            over = min(float(frames[number, index]) / middle, 2.0)
            rows.append({"label": engine["label"], "second": second, "over": over, "round": None})
        rows += [
            {
                "label": engine["label"],
                "second": taken["second"],
                "over": None,
                "round": min(taken["stages_ms"]["frame"] / middle, 2.0),
            }
            for taken in engine["rounds"]
        ]
    x = _axis("second", "since the start (s)", axis={"tickCount": 4})
    y = _axis("over", "over the median", scale={"domain": [0.5, 2]}, axis={"tickCount": 4})
    return {
        "data": {"values": rows},
        "facet": {
            "field": "label",
            "type": "nominal",
            "title": None,
            "sort": [engine["label"] for engine in engines],
            # Two lines: side by side there is no room for a long name.
            "header": {
                "labelExpr": "[split(datum.value, ' ')[0], join(slice(split(datum.value, ' '), 1), ' ')]"
            },
        },
        "columns": 2,
        "spacing": 14,
        "spec": {
            "width": WIDTH / 2 - 20,
            "height": 80,
            "layer": [
                {
                    "mark": {
                        "type": "point",
                        "filled": True,
                        "size": 7,
                        "opacity": 0.55,
                        "color": COLOURS[0],
                    },
                    "encoding": {"x": x, "y": y},
                },
                {
                    "transform": [{"filter": "isValid(datum.round)"}],
                    "mark": {"type": "line", "color": COLOURS[1], "strokeWidth": 2},
                    "encoding": {"x": x, "y": {**y, "field": "round"}},
                },
            ],
        },
    }


def counts(rows: Rows, name: str, title: str) -> dict[str, Any]:
    """The network's median over a count (threads, targets) for every bundle."""
    values = [
        {"bundle": row["bundle"], "count": row[name], "ms": row["stages_ms"]["network"]["p50"]}
        for row in rows
    ]
    return {
        "width": WIDTH,
        "height": 220,
        "data": {"values": values},
        "mark": {"type": "line", "point": {"size": 50}},
        "encoding": {
            "x": {"field": "count", "type": "ordinal", "title": title, "axis": {"labelAngle": 0}},
            "y": _log([row["ms"] for row in values], "network, median (ms, logarithmic)", "ms"),
            "color": {"field": "bundle", "type": "nominal", "title": None, "sort": None},
        },
    }


def cost(rows: Rows, axis: str, title: str) -> dict[str, Any]:
    """Time and multiply-accumulates over keep ratio or search size, each over the bundle's own network's."""
    values = []
    for bundle in dict.fromkeys(row["bundle"] for row in rows):
        own = [row for row in rows if row["bundle"] == bundle]
        most = max(own, key=lambda row: row["value"])
        for row in own:
            time = row["stages_ms"]["network"]["p50"] / most["stages_ms"]["network"]["p50"]
            values.append({"bundle": bundle, "value": row["value"], "share": time, "what": "time"})
            macs = row["macs"]["fast"] / most["macs"]["fast"]
            values.append({"bundle": bundle, "value": row["value"], "share": macs, "what": "products"})
    return {
        "width": WIDTH,
        "height": 220,
        "data": {"values": values},
        "mark": {"type": "line", "point": {"size": 45}},
        "encoding": {
            "x": _axis("value", title, scale={"zero": False}),
            "y": _axis("share", "share of the rightmost point", scale={"zero": True}),
            "color": {"field": "bundle", "type": "nominal", "title": None, "sort": None},
            "strokeDash": {
                "field": "what",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["time", "products"], "range": [[1, 0], [4, 3]]},
                "legend": {"symbolType": "stroke", "symbolStrokeColor": "currentColor"},
            },
        },
    }


def blocks(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Where an engine's time goes: a bar for each block of the network, and the machine's limit for it."""
    rows = [{"block": row["block"], "ms": row["ms"], "limit": row["limit_ms"]} for row in engine["blocks"]]
    y = {
        "field": "block",
        "type": "nominal",
        "title": None,
        "sort": None,
        "axis": {"labelLimit": 170, "domain": False, "ticks": False},
    }
    x = _axis("ms", "time (ms); the line: least time at this machine's peaks")
    return {
        "width": WIDTH - 130,
        "height": {"step": 20},
        "data": {"values": rows},
        "encoding": {"y": y},
        "layer": [
            {"mark": {"type": "bar", "color": COLOURS[0], "height": 12}, "encoding": {"x": x}},
            {
                "mark": {"type": "tick", "thickness": 2, "size": 16, "color": COLOURS[1]},
                "encoding": {"x": {**x, "field": "limit"}},
            },
        ],
    }
