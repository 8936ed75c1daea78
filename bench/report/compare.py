"""What changed between two reports, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from jntrt.bench.statistics import difference
from jntrt.runtime.errors import UserError

STAGES = ("crop", "network", "box", "frame")
JUDGED = ("network", "frame")  # the others are microseconds, whose rounds differ by more
MAX_P = 0.002  # as asv has it: at 0.05 one of twenty equal runs would be called changed
LEAST_ROUNDS = 6  # with five each even disjoint values do not reach MAX_P
LEGEND = """\
ratio   new over old: medians of rounds, each over the fixed product that was
        timed before it, so that a slower clock is no slower tracker
95 %    bootstrap interval, rounds drawn
p       Mann-Whitney test on the rounds · above: how often a new round is above
        an old one (0.5: no difference)
A verdict needs p below 0.002 and a ratio beyond the tolerance; in a noisy run
a small change is not found."""


@dataclass(frozen=True)
class Change:
    """One stage of one engine, old against new. Times are medians in ms, ratio as in `LEGEND`.

    verdict: slower, faster or same; changed graphs are told, their times are compared all the same.
    conditions: the verdicts on the machine in both runs.
    """

    label: str
    stage: str
    old_ms: float
    new_ms: float
    ratio: float
    low: float
    high: float
    p: float
    above: float
    verdict: str
    same_graph: bool
    conditions: tuple[str, str]


def compare(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> list[Change]:
    """Every stage of the engines that both reports have. UserError where there is none, or too few rounds."""
    before = {engine["label"]: engine for engine in old.get("engines", ())}
    pairs = [(before[e["label"]], e) for e in new.get("engines", ()) if e["label"] in before]
    if not pairs:
        raise UserError(
            "the reports have no engine in common: measure the same bundles, backends, precisions"
        )
    return [_change(one, other, stage, tolerance) for one, other in pairs for stage in STAGES]


def regressions(changes: list[Change]) -> list[Change]:
    """What became slower beyond the tolerance, of the stages that are judged."""
    return [change for change in changes if change.verdict == "slower" and change.stage in JUDGED]


def print_changes(changes: list[Change], console: Console) -> None:
    """One table an engine, and the legend."""
    for label in dict.fromkeys(change.label for change in changes):
        own = [change for change in changes if change.label == label]
        other = f" ({', then '.join(own[0].conditions)})"
        other += "" if own[0].same_graph else ", another graph"
        table = Table(
            title=label + other, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
        )
        table.add_column("stage")
        for column in ("old ms", "new ms", "ratio", "95 %", "p", "above", ""):
            table.add_column(column, justify="right", no_wrap=True)
        for c in own:
            figures = (f"{c.old_ms:.3f}", f"{c.new_ms:.3f}", f"{c.ratio:.3f}", f"{c.low:.3f} … {c.high:.3f}")
            table.add_row(c.stage, *figures, f"{c.p:.4f}", f"{c.above:.2f}", c.verdict)
        console.print(table)
        console.print()
    console.print(LEGEND, highlight=False)


def to_dict(changes: list[Change], tolerance: float) -> dict[str, Any]:
    """For JSON."""
    return {
        "tolerance": tolerance,
        "max_p": MAX_P,
        "changes": [asdict(change) for change in changes],
        "regressions": [f"{change.label} {change.stage}" for change in regressions(changes)],
    }


def _change(old: Mapping[str, Any], new: Mapping[str, Any], stage: str, tolerance: float) -> Change:
    for engine in (old, new):
        if len(engine["rounds"]) < LEAST_ROUNDS:
            raise UserError(
                f"{engine['label']}: {len(engine['rounds'])} rounds are too few to compare;"
                f" measure with --rounds {LEAST_ROUNDS} or more"
            )
    found = difference(_over_reference(old, stage), _over_reference(new, stage))
    verdict = "same"
    if found.p < MAX_P and found.ratio > 1 + tolerance:
        verdict = "slower"
    elif found.p < MAX_P and found.ratio < 1 / (1 + tolerance):
        verdict = "faster"
    return Change(
        new["label"],
        stage,
        old["stages_ms"][stage]["p50"],
        new["stages_ms"][stage]["p50"],
        *(found.ratio, found.low, found.high, found.p, found.effect),
        verdict,
        old["graph_sha256"] == new["graph_sha256"],
        (old["verdict"]["word"], new["verdict"]["word"]),
    )


def _over_reference(engine: Mapping[str, Any], stage: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    times = [taken["stages_ms"][stage] / taken["reference_ms"] for taken in engine["rounds"]]
    return np.array(times, dtype=np.float64)
