"""What changed between two reports, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from rich.console import Console

from jntrt.bench.statistics import Floats, difference
from jntrt.bench.tables import titled_table
from jntrt.runtime.errors import UserError

STAGES = ("crop", "network", "box", "frame")
WHOLE = "start to end"  # the stage of bench-jn pipeline
JUDGED = ("network", "frame", WHOLE)  # the others are microseconds, whose rounds differ by more
MAX_P = 0.002  # as asv has it: at 0.05 one of twenty equal runs would be called changed
LEAST_ROUNDS = 6  # with five each even disjoint values do not reach MAX_P
STARTS = 4  # processes of an engine, from which the tolerance alone decides
ONE_PLACE = 0.08  # by how much two processes of one engine may differ: by where their memory lies
LEGEND = """\
ratio   new over old, medians over rounds of each round's median, of frames over
        a fixed product that was timed after each, so that neither a busy
        neighbour nor a slower clock is a slower tracker
95 %    bootstrap interval; processes drawn, of one process its rounds
p       Mann-Whitney test on the rounds · above: how often a new round is above
        an old one (0.5: no difference)
limit   from where on a change counts: the tolerance, and 8 % where an engine
        ran in fewer than 4 processes (--starts)
A verdict needs p below 0.002, a ratio beyond the limit, and 1 outside of the
interval."""


@dataclass(frozen=True)
class Change:
    """One stage of one engine, old against new. Times are medians in ms, ratio and limit as in `LEGEND`.

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
    limit: float
    verdict: str
    same_graph: bool
    conditions: tuple[str, str]


def compare(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> list[Change]:
    """Every stage of the engines that both reports have, and every whole command. UserError where there is
    none, or too few rounds."""
    before = {taken.label: taken for taken in _all_taken(old)}
    pairs = [(before[taken.label], taken) for taken in _all_taken(new) if taken.label in before]
    if not pairs:
        raise UserError(
            "the reports have no engine in common: measure the same bundles, backends, precisions"
        )
    return [_change(one, other, stage, tolerance) for one, other in pairs for stage in other.ratios]


def regressions(changes: list[Change]) -> list[Change]:
    """What became slower beyond the tolerance, of the stages that are judged."""
    return [change for change in changes if change.verdict == "slower" and change.stage in JUDGED]


def print_changes(changes: list[Change], console: Console) -> None:
    """One table an engine, and the legend."""
    for label in dict.fromkeys(change.label for change in changes):
        own = [change for change in changes if change.label == label]
        other = f" ({', then '.join(own[0].conditions)})"
        other += "" if own[0].same_graph else ", another graph"
        columns = ("stage", "old ms", "new ms", "ratio", "95 %", "p", "above", "limit", "")
        table = titled_table(label + other, *columns, width=None)
        for c in own:
            figures = (f"{c.old_ms:.3f}", f"{c.new_ms:.3f}", f"{c.ratio:.3f}", f"{c.low:.3f} … {c.high:.3f}")
            table.add_row(c.stage, *figures, f"{c.p:.4f}", f"{c.above:.2f}", f"{c.limit:.1%}", c.verdict)
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


@dataclass(frozen=True)
class _Taken:
    """What a report has of one engine, or of one whole command. ms: medians, ratios: as in `LEGEND`, a value
    a round, the rounds of each process in an array; both by stage. graph: digests of what ran."""

    label: str
    ms: Mapping[str, float]
    ratios: Mapping[str, Sequence[Floats]]
    graph: Any
    condition: str


def _all_taken(report: Mapping[str, Any]) -> Iterator[_Taken]:
    for engine in report.get("engines", ()):
        starts = [list(rounds) for _, rounds in groupby(engine["rounds"], key=itemgetter("start"))]
        ratios = {
            stage: [np.array([taken["over_reference"][stage] for taken in rounds]) for rounds in starts]
            for stage in STAGES
        }
        ms = {stage: engine["stages_ms"][stage]["p50"] for stage in STAGES}
        yield _Taken(engine["label"], ms, ratios, engine["graph_sha256"], engine["verdict"]["word"])
    for command in report.get("pipeline", ()):
        each = [np.array([1e3 * taken["seconds"] / taken["reference_ms"]]) for taken in command["rounds"]]
        label, ms = f"{command['label']}, whole command", {WHOLE: 1e3 * command["seconds"]}
        yield _Taken(label, ms, {WHOLE: each}, command["bundle_sha256"], "not judged")


def _change(old: _Taken, new: _Taken, stage: str, tolerance: float) -> Change:
    one, other = old.ratios[stage], new.ratios[stage]
    for starts in (one, other):
        rounds = sum(map(len, starts))
        if rounds < LEAST_ROUNDS:
            raise UserError(
                f"{new.label}: {rounds} rounds are too few to compare;"
                f" measure with --rounds {LEAST_ROUNDS} or more"
            )
    found = difference(one, other)
    limit = tolerance if min(len(one), len(other)) >= STARTS else max(tolerance, ONE_PLACE)
    verdict = "same"
    if found.p < MAX_P and found.ratio > 1 + limit and found.low > 1:
        verdict = "slower"
    elif found.p < MAX_P and found.ratio < 1 / (1 + limit) and found.high < 1:
        verdict = "faster"
    return Change(
        label=new.label,
        stage=stage,
        old_ms=old.ms[stage],
        new_ms=new.ms[stage],
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        p=found.p,
        above=found.effect,
        limit=limit,
        verdict=verdict,
        same_graph=old.graph == new.graph,
        conditions=(old.condition, new.condition),
    )
