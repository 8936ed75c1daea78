"""What counts as a change between two reports."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jntrt.bench.cli import app
from jntrt.bench.latency.worker import STAGES
from jntrt.bench.report.compare import compare, regressions
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from planted_slowdown import count


def report(
    seed: int,
    *,
    slower: float = 1.0,
    clock: float = 1.0,
    rounds: int = 12,
    starts: int = 4,
    place: float = 0.0,
) -> dict[str, Any]:
    """One engine of 5 ms whose rounds differ by 1 %; clock: of the whole machine, slower: of the engine;
    place: by how much its processes differ."""
    rng = np.random.default_rng(seed)
    taken = []
    places = 1 + place * rng.standard_normal(starts)
    for number in range(rounds):
        start = number * starts // rounds
        moment = clock * (1 + 0.01 * rng.standard_normal())
        times = {
            name: 5 * slower * places[start] * moment * (1 + 0.005 * rng.standard_normal()) for name in STAGES
        }
        ratios = {name: ms / (4 * moment) for name, ms in times.items()}
        taken.append({"start": start, "second": float(number), "stages_ms": times, "over_reference": ratios})
    stages = {name: {"p50": float(np.median([one["stages_ms"][name] for one in taken]))} for name in STAGES}
    graph = {"template": "t", "track": "g"}
    engine = {"label": "e", "rounds": taken, "stages_ms": stages, "graph_sha256": graph}
    engine["verdict"] = {"word": "quiet", "reasons": []}
    return {"engines": [engine]}


def verdicts(old: dict[str, Any], new: dict[str, Any], tolerance: float = 0.02) -> set[str]:
    return {change.verdict for change in compare(old, new, tolerance) if change.stage == "network"}


def test_a_slowdown_of_five_per_cent_is_found_and_equal_runs_are_silent() -> None:
    for seed in range(20):
        old = report(seed)
        assert verdicts(old, report(100 + seed)) == {"same"}
        assert verdicts(old, report(100 + seed, slower=1.05)) == {"slower"}
        assert verdicts(old, report(100 + seed, slower=1 / 1.05)) == {"faster"}


def test_a_slower_machine_is_no_slower_tracker() -> None:
    assert verdicts(report(0), report(1, clock=1.3)) == {"same"}


def test_the_tolerance_is_the_least_change_that_counts() -> None:
    old, new = report(0), report(1, slower=1.05)
    assert verdicts(old, new, tolerance=0.1) == {"same"}
    assert [change.stage for change in regressions(compare(old, new, 0.02))] == ["network", "frame"]


def test_a_process_s_place_in_memory_is_no_change() -> None:
    """Processes that differ by 2 %, as was measured: eight against eight tell 5 %, one against one not."""
    found = alarms = alone = 0
    for seed in range(20):
        old, new = (report(seed + k, rounds=24, starts=8, place=0.02) for k in (0, 100))
        alarms += verdicts(old, new) == {"slower"}
        slowed = report(seed + 200, rounds=24, starts=8, place=0.02, slower=1.05)
        found += verdicts(old, slowed) == {"slower"}
        one, other = (report(seed + k, starts=1, place=0.02, slower=s) for k, s in ((0, 1.0), (100, 1.05)))
        alone += verdicts(one, other) == {"slower"}
    print(found, alarms, alone)
    assert found >= 18
    assert alarms <= 1
    assert alone <= 5


def test_a_run_whose_processes_differ_by_a_third_calls_nothing() -> None:
    for seed in range(20):
        old, new = (report(seed + k, rounds=24, starts=8, place=0.3) for k in (0, 100))
        assert verdicts(old, new) == {"same"}


def command(seed: int, slower: float = 1.0) -> dict[str, Any]:
    """What bench-jn pipeline saves."""
    rng = np.random.default_rng(seed)
    times = 10 * slower * (1 + 0.005 * rng.standard_normal(8))
    runs = [{"seconds": float(time), "cpu_seconds": 20.0, "reference_ms": 1.0} for time in times]
    about = {"label": "e", "bundle_sha256": "b", "seconds": float(np.median(times)), "rounds": runs}
    return {"pipeline": [about]}


def test_whole_commands_are_compared() -> None:
    (change,) = compare(command(0), command(1, slower=1.05), 0.02)
    assert (change.label, change.stage, change.verdict) == ("e, whole command", "start to end", "slower")
    assert regressions([change]) == [change]
    (change,) = compare(command(0), command(1), 0.02)
    assert change.verdict == "same"
    assert len(compare(report(0) | command(0), report(1) | command(1), 0.02)) == 5


@pytest.mark.slow
def test_a_planted_slowdown_is_found_in_real_runs() -> None:
    """planted_slowdown.py plants 5 % where a figure is wanted; a third is found on a busy machine too."""
    assert count("nanotrack-v3", 2, 1 / 3, starts=4, say=False) == (2, 0)


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(UserError, match="5 rounds are too few"):
        compare(report(0), report(1, rounds=5), 0.02)
    other = report(1)
    other["engines"][0]["label"] = "f"
    with pytest.raises(UserError, match="no engine in common"):
        compare(report(0), other, 0.02)


def test_the_exit_code_is_4_for_a_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jntrt.bench.report import documents

    monkeypatch.setattr(documents, "complaint", lambda document: "")
    head = {"format": "jntrt-report", "version": 1}
    files = []
    for number, document in enumerate((report(0), report(1), report(2, slower=1.08))):
        files.append(str(tmp_path / f"{number}.json"))
        Path(files[-1]).write_text(json.dumps({**head, **document}))
    assert run(app, ["compare", files[0], files[1]]) == 0
    capsys.readouterr()
    assert run(app, ["compare", files[0], files[2], "--json"]) == 4
    captured = capsys.readouterr()
    assert json.loads(captured.out)["regressions"] == ["e network", "e frame"]
    assert "slower: e network" in captured.err
    changed = copy.deepcopy(report(2))
    changed["engines"][0]["graph_sha256"] = {"template": "t", "track": "h"}
    assert not compare(report(0), changed, 0.02)[0].same_graph
