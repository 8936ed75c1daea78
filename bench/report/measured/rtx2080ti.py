"""The papers' card: what was measured on it, what was published for it, what is projected. Never mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jntrt.bench.latency.report import published_figure
from jntrt.bench.projection.project import project
from jntrt.bench.projection.project import to_dict as projected_dict
from jntrt.bench.projection.report import back_test_rows, held_out_frame
from jntrt.runtime.bundle import Bundle

NAME = "RTX 2080 Ti"
CARD = "rtx2080ti"


def rtx2080ti(
    bundles: Sequence[Bundle], engines: Sequence[Mapping[str, Any]], gpu: str | None
) -> dict[str, Any]:
    """Rows of all three kinds, the projection's back-test and the frame that no fit has seen.

    engines: the report's own, which were measured on `gpu`; on another than this card none is a row here.
    """
    rows = [row for engine in engines if gpu and NAME in gpu for row in _measured(engine)]
    for bundle in bundles:
        rows += [*_published(bundle), *_projected(bundle)]
    return {"rows": rows, "back_test": back_test_rows(), "held_out": held_out_frame()}


def _measured(engine: Mapping[str, Any]) -> list[dict[str, Any]]:
    scopes = {"network": "network, with upload and download", "frame": "whole update: crop, network, box"}
    return [
        {
            **{"bundle": engine["bundle"], "kind": "measured", "what": engine["label"], "device": NAME},
            **{"scope": scope, "low_ms": figures["low"], "high_ms": figures["high"]},
        }
        for stage, scope in scopes.items()
        if (figures := engine["stages_ms"][stage])["low"] is not None
    ]


def _published(bundle: Bundle) -> list[dict[str, Any]]:
    figure = published_figure(bundle)
    if figure is None:
        return []
    ms = round(1e3 / figure.fps, 2)
    about = {"bundle": bundle.name, "kind": "published", "what": figure.model, "device": figure.device}
    return [{**about, "scope": figure.scope, "low_ms": ms, "high_ms": ms}]


def _projected(bundle: Bundle) -> list[dict[str, Any]]:
    rows = []
    for found in project(bundle, CARD):
        told = projected_dict(found)
        scope = f"{told['scope']}, sums in {told['sums']}, from {told['from']}"
        if told["launch_share"] > 0.5:
            scope += f"; {told['launch_share']:.0%} of it are launches: trust the order of magnitude"
        rows.append(
            {
                **{"bundle": bundle.name, "kind": "projected", "what": f"{bundle.name} {told['precision']}"},
                **{"device": told["card"], "scope": scope},
                **{key: round(told[key], 3) for key in ("ms", "low_ms", "high_ms")},
            }
        )
    return rows
