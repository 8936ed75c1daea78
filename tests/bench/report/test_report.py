"""A whole report of a tiny network: JSON against the schema, page in a browser, joined, saved, listed."""

import copy
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from jntrt.bench.accuracy.baselines import baseline
from jntrt.bench.cli import app
from jntrt.bench.report.documents import complaint, join, read, schema
from jntrt.bench.report.measured.collect import SECTIONS
from jntrt.bench.report.measured.tradeoff import clips_of, fitting, tradeoff
from jntrt.bench.report.shown.content import content, title
from jntrt.bench.report.shown.html import page
from jntrt.bench.report.shown.markdown import text
from jntrt.bench.untrained import untrained_bundle
from jntrt.export.families import family
from jntrt.runtime.command.app import run

from ..tiny import write_got10k

sys.path.insert(0, str(Path(__file__).parents[2] / "runtime"))
import browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything: out.html, .md, .json, and saved/ with its dated folder."""
    folder = tmp_path_factory.mktemp("report")
    recipe = dataclasses.replace(family("ostrack").NETWORKS["tiny"], ce_layers=(0,), keep_ratio=(0.7,))
    untrained_bundle(folder / "tiny", "ostrack", recipe)
    data = write_got10k(folder / "data")
    words = [str(folder / "tiny"), "--data", str(data / "A"), str(data / "B"), "--baseline", "static,ncc"]
    words += ["--backend", "onnxruntime", "--precision", "fp32,int8", "--threads", "1", "--rounds", "6"]
    words += ["--seconds", "0.02", "--save", str(folder / "saved"), "-o", str(folder / "out.html")]
    assert run(app, ["report", *words]) == 0
    return folder


@pytest.fixture
def document(folder: Path) -> dict[str, Any]:
    return read(folder / "out.json")


def test_the_json_is_what_the_schema_says(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert complaint(document) == ""
    keys = {"latency": "engines"}
    assert all(keys.get(name, name) in document for name in SECTIONS)
    engine = document["engines"][0]
    assert (engine["label"], len(engine["rounds"])) == ("tiny onnxruntime fp32", 6)
    assert engine["stages_ms"]["frame"]["p99.9"] is None
    assert engine["start_ms"]["first_box"] > engine["start_ms"]["open"] > 0
    assert document["left_out"] == [{"what": "tiny int8", "why": "tiny has no int8"}]
    assert {row["name"] for row in document["accuracy"]["trackers"]} >= {"static", "ncc"}
    assert [row["targets"] for row in document["targets"]] == [1, 2, 4, 8]
    kinds = {row["kind"] for row in document["rtx2080ti"]["rows"]}
    assert kinds == {"projected"}  # nobody has published the tiny network, nor is the card here
    ratios = [row["value"] for row in document["cost"] if row["axis"] == "keep_ratio"]
    assert ratios == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    plain = [row["macs"]["plain"] for row in document["cost"] if row["axis"] == "keep_ratio"]
    assert plain == sorted(plain, reverse=True)
    assert plain[0] > plain[-1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["engines"][0].pop("rounds"),
        lambda d: d["engines"][0]["stages_ms"]["network"].update(p50="fast"),
        lambda d: d["layers"]["engines"][0]["layers"][0].pop("limit_ms"),
        lambda d: d["accuracy"]["trackers"][0].pop("ao"),
        lambda d: d["engines"][0]["verdict"].update(word="fine"),
        lambda d: d.pop("machine"),
    ],
)
def test_a_damaged_report_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    changed = json.loads((folder / "out.json").read_text())
    damage(changed)
    (tmp_path / "bad.json").write_text(json.dumps(changed))
    assert run(app, ["report", str(tmp_path / "bad.json"), "--save", str(tmp_path / "s")]) == 2
    error = capsys.readouterr().err
    assert "damaged or changed" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_the_page_is_one_file_without_script_and_without_requests(folder: Path) -> None:
    html = (folder / "out.html").read_text()
    assert len(html.encode()) < 2_000_000
    assert not re.search(r"<script|javascript:|\bon\w+=|<link|<iframe|@import", html)
    named = set(re.findall(r"""(?:https?:)?//[^\s"'<>]+""", html))
    assert named <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for words in ("Accuracy against speed", "stage by stage", "Threads", "Targets", "Layers", "Method"):
        assert words in html
    assert html.count("<svg") >= 8


def test_names_cannot_become_markup(document: dict[str, Any]) -> None:
    hostile = "<script>alert(1)</script>|`x`"
    renamed = json.loads(json.dumps(document).replace("tiny", hostile))
    html = page(title(renamed), content(renamed))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in text(title(renamed), content(renamed))


def test_the_markdown_says_the_same(folder: Path, document: dict[str, Any]) -> None:
    words = (folder / "out.md").read_text()
    assert words == text(title(document), content(document))
    median = document["engines"][0]["stages_ms"]["frame"]["p50"]
    assert f"{median:.3f}" in words
    assert "| tiny onnxruntime fp32 |" in words
    assert (folder / "out.html").read_text() == page(title(document), content(document))


@pytest.mark.skipif(
    not (browser.CHROMIUM and browser.DRIVER), reason="no chromium with chromedriver: apt install them"
)
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)])
def test_the_page_in_a_browser(folder: Path, tmp_path: Path, width: int, dark: bool) -> None:
    pytest.importorskip("selenium")
    with browser.opened((folder / "out.html").as_uri(), tmp_path, width, 900, dark=dark) as shown:
        assert shown.script("document.documentElement.scrollWidth") <= width
        assert shown.script("performance.getEntriesByType('resource').length") == 0
        paper = shown.script("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
        charts = "[...document.querySelectorAll('body>figure svg')]"
        width_of = "chart => chart.getBoundingClientRect().width"
        assert shown.script(f"Math.min(...{charts}.map({width_of}))") > 0.85 * min(width - 32, 540)
        assert shown.complaints() == []


def test_reports_are_joined_section_by_section(
    folder: Path, tmp_path: Path, document: dict[str, Any]
) -> None:
    first, second = copy.deepcopy(document), copy.deepcopy(document)
    for key in ("threads", "targets", "cost", "accuracy"):
        del first[key]
    first["left_out"].append({"what": "accuracy", "why": "no --data"})
    for key in ("engines", "conditions", "layers", "video", "rtx2080ti"):
        del second[key]
    both = join([first, second])
    assert complaint(both) == ""
    assert both["engines"] == document["engines"]
    assert both["accuracy"] == document["accuracy"]
    assert not [row for row in both["left_out"] if row["what"] == "accuracy"]
    (tmp_path / "a.json").write_text(json.dumps(first))
    (tmp_path / "b.json").write_text(json.dumps(second))
    words = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert run(app, ["report", *words, "--save", str(tmp_path / "s"), "-o", str(tmp_path / "c.html")]) == 0
    assert "Accuracy against speed" in (tmp_path / "c.html").read_text()


def test_a_section_that_cannot_be_measured_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers of an engine that are not read, a family that is unknown: the rest is a report all the same."""
    monkeypatch.setattr("jntrt.bench.layers.READ", ("openvino",))
    monkeypatch.setattr("jntrt.bench.report.measured.sweeps.FAMILIES", {})
    words = [str(folder / "tiny"), "--backend", "onnxruntime", "--threads", "1", "--rounds", "2"]
    words += ["--seconds", "0.01", "--sections", "latency,layers,cost", "--save", str(tmp_path)]
    assert run(app, ["report", *words]) == 0
    document = read(next(tmp_path.iterdir()))
    left_out = {row["what"]: row["why"] for row in document["left_out"]}
    assert left_out["layers"] == "layers of onnxruntime are not read, only of openvino"
    assert "its family ostrack is unknown here" in left_out["cost"]
    assert document["engines"]


def test_layers_of_a_gpu_without_limits(document: dict[str, Any]) -> None:
    """JSON, page and Markdown leave the limit out and say why."""
    engine = document["layers"]["engines"][0]
    for row in (*engine["layers"], *engine["blocks"]):
        row["limit_ms"] = row["share"] = None
    engine["notes"] = ["no limits: Card X is not in the table of GPUs"]
    assert complaint(document) == ""
    words = text(title(document), content(document)).replace("\\", "")
    assert engine["notes"][0] in words
    worst = next(row for row in engine["layers"] if row["name"] == engine["worst"][0])
    (row,) = [line for line in words.splitlines() if line.startswith(f"| {worst['name']} |")]
    assert row.endswith("| - | - |")
    assert engine["notes"][0] in page(title(document), content(document))


def test_a_slow_tracker_sees_as_many_frames_as_its_time_allows(folder: Path) -> None:
    clips = clips_of([folder / "data"], None)
    assert [len(clip) for clip in clips] == [8, 8]
    assert fitting(1.0, 1.0, clips) == 8
    assert fitting(0.012, 1.0, clips) == 10  # a clip's least
    long = [
        dataclasses.replace(clip, boxes=np.repeat(clip.boxes, count, 0))
        for clip, count in zip(clips, (2, 9), strict=True)
    ]
    assert fitting(0.050, 1.0, long) == 34  # 16 of the short clip, the others of the long one
    contestant = (baseline("ncc"), {"bundle": "ncc", "precision": "none", "kind": "classical"}, 3)
    (row,) = tradeoff([contestant], clips, None, lambda words: None)["trackers"]
    assert row["frames"] == 6


def test_small_words(document: dict[str, Any]) -> None:
    """One clip is no "1 clips"; the box that stands still has no speed."""
    one = copy.deepcopy(document)
    one["accuracy"]["clips"] = one["accuracy"]["clips"][:1]
    assert "1 clips" not in text(title(one), content(one))
    words = text(title(document), content(document))
    (static,) = [line for line in words.splitlines() if line.startswith("| static |")]
    assert static.endswith("| - | - |")


def test_two_machines_are_not_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    other = json.loads((folder / "out.json").read_text())
    other["machine"]["processor"] = "another"
    (tmp_path / "b.json").write_text(json.dumps(other))
    assert run(app, ["report", str(folder / "out.json"), str(tmp_path / "b.json")]) == 2
    assert "reports of two machines" in capsys.readouterr().err


def test_saved_reports_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["list", "--save", str(folder / "saved"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["bundles"], row["engines"]) for row in rows] == [(["tiny"], 1)]
    saved = Path(rows[0]["folder"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", saved.name)
    assert {file.name for file in saved.iterdir()} == {"report.json", "report.html", "report.md"}
    assert run(app, ["list", "--save", str(folder / "none")]) == 0
    assert "nothing saved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "--sections", "speed"], "--sections speed: there are latency"),
        (["report", "--rounds", "1"], "have to be 2 or more"),
        (["report", "-o", "x.pdf"], "name a page, REPORT.html"),
        (["report", "missing.json"], "cannot be read"),
        (["report", "jn-nano", "--precision", "int8"], "jn-nano has no int8"),
        (["compare", "a.json", "b.json", "--tolerance", "-1"], "--tolerance -1"),
        (["layers", "jn-nano", "--backend", "none"], "no backend 'none'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(app, words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
