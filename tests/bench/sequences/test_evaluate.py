"""Runs over sequences: result files, resuming, the toolkit's own reading of them, tables, the command."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from jntrt.bench.accuracy.baselines import (
    OpenCVTracker,
    StaticBox,
    TemplateMatching,
    baseline,
    baseline_names,
)
from jntrt.bench.accuracy.contestants import bundle_contestant
from jntrt.bench.accuracy.report import plot_success, print_tables, to_dict
from jntrt.bench.cli import app
from jntrt.bench.sequences.clips import load_clips
from jntrt.bench.sequences.evaluate import compare, evaluate, run_tracker
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError

from ..tiny import DriftingTracker, contestant, write_got10k


def test_the_toolkit_reads_our_files_and_finds_our_numbers(tmp_path: Path) -> None:
    from got10k.experiments import ExperimentGOT10k, ExperimentOTB
    from got10k.utils.metrics import rect_iou

    root = write_got10k(tmp_path / "data" / "val", frames=12)
    sequences = load_clips(root)
    ours = evaluate(contestant("drift", DriftingTracker()), sequences, tmp_path / "out")
    experiment = ExperimentGOT10k(
        str(tmp_path / "data"), "val", str(tmp_path / "out"), str(tmp_path / "reports")
    )
    theirs = experiment.report(["drift"])["drift"]
    assert ours.measures.frames == 2 * 10  # 12 frames, without the first and the covered one
    assert ours.measures.ao_frames == pytest.approx(theirs["overall"]["ao"], abs=1e-12)
    assert ours.measures.sr50_frames == pytest.approx(theirs["overall"]["sr"], abs=1e-12)
    assert ours.fps == pytest.approx(theirs["overall"]["speed_fps"], rel=0.5)  # theirs has the init frame
    by_clip = [theirs["seq_wise"][name]["ao"] for name in ("A", "B")]
    np.testing.assert_allclose(ours.ao_by_clip, by_clip)

    # OTB's rule counts every frame: here only those that our rule calls visible.
    otb = ExperimentOTB.__new__(ExperimentOTB)
    otb.nbins_iou, otb.nbins_ce = 21, 51
    for clip, sequence in zip(ours.clips, sequences, strict=True):
        boxes = np.loadtxt(tmp_path / "out/GOT-10k/drift" / clip.name / f"{clip.name}_001.txt", delimiter=",")
        seen, truth = boxes[sequence.visible], np.array(sequence.boxes[sequence.visible])
        success, precision = otb._calc_curves(*otb._calc_metrics(seen, truth))
        np.testing.assert_allclose(clip.success, success)
        assert clip.precision == precision[20]
        assert rect_iou(seen, truth).min() < 0.5 < rect_iou(seen, truth).max()  # the case is not trivial


def test_resumes_where_it_stopped(tmp_path: Path) -> None:
    sequences = load_clips(write_got10k(tmp_path / "data"))
    tracker = DriftingTracker()
    first = evaluate(contestant("t", tracker), sequences[:1], tmp_path / "out")
    assert tracker.updates == 7
    both = evaluate(contestant("t", tracker), sequences, tmp_path / "out")
    assert tracker.updates == 14
    np.testing.assert_array_equal(first.clips[0].overlaps, both.clips[0].overlaps)
    done = []
    evaluate(contestant("t", tracker), sequences, tmp_path / "out", done.append)
    assert tracker.updates == 14
    assert sum(done) == 16
    # Half-written results do not count: the marker comes last.
    (tmp_path / "out/GOT-10k/t/A/done.json").unlink()
    evaluate(contestant("t", tracker), sequences, tmp_path / "out")
    assert tracker.updates == 21
    # Neither do those of another bundle of the same name.
    evaluate(contestant("t", tracker, sha256="other"), sequences, tmp_path / "out")
    assert tracker.updates == 35


def test_presence_and_lost_frames(tmp_path: Path) -> None:
    sequences = load_clips(write_got10k(tmp_path, absent=True))
    result = evaluate(contestant("t", DriftingTracker()), sequences)
    assert result.measures.presence_auroc == 1
    assert evaluate(baseline("static"), sequences).measures.presence_auroc is None


def test_a_first_frame_without_target(tmp_path: Path) -> None:
    root = write_got10k(tmp_path, names=("A",))
    (root / "A" / "absence.label").write_text("1\n" + "0\n" * 7)
    with pytest.raises(UserError, match="no visible target in its first frame"):
        run_tracker(load_clips(root)[0], DriftingTracker())


def test_baselines_follow_an_easy_target(tmp_path: Path) -> None:
    (sequence, _) = load_clips(write_got10k(tmp_path))
    matched = run_tracker(sequence, TemplateMatching())
    np.testing.assert_allclose(matched.boxes[-1], sequence.boxes[-1], atol=2)
    assert matched.scores[1:].min() > 0.7
    still = run_tracker(sequence, StaticBox())
    np.testing.assert_array_equal(still.boxes[-1], sequence.boxes[0])
    assert {"static", "ncc"} <= set(baseline_names())
    for name in set(baseline_names()) & {"mil"}:
        assert run_tracker(sequence, OpenCVTracker(name)).boxes.shape == (8, 4)
    with pytest.raises(UserError, match="no baseline is called sift"):
        baseline("sift")


@pytest.mark.parametrize("box", [(-10.0, -5.0, 30.0, 20.0), (50.0, 30.0, 0.6, 0.4)])
def test_a_box_that_opencv_cannot_start_on(box: tuple[float, float, float, float]) -> None:
    if "mil" not in baseline_names():
        pytest.skip("this OpenCV has no MIL")
    frame = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    tracker = OpenCVTracker("mil")
    tracker.init(frame, box)
    assert np.isfinite(tracker.update(frame).box).all()


def test_template_matching_at_the_border() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    tracker = TemplateMatching()
    tracker.init(frame, (45.0, -3.0, 90.0, 2.0))
    for _ in range(3):
        box = tracker.update(frame).box
    assert np.isfinite(box).all()


def test_tables_json_and_plot(tmp_path: Path) -> None:
    sequences = load_clips(write_got10k(tmp_path / "data"))
    trackers = [contestant("a-tracker-with-quite-a-long-name-fp32", DriftingTracker()), baseline("static")]
    evaluations = [evaluate(tracker, sequences) for tracker in trackers]
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_tables(evaluations, console)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "Pooled frames" in text
    assert "Mean over clips" in text
    report = to_dict(evaluations, {"cores": 1})
    json.dumps(report, allow_nan=False)
    assert report["trackers"][1]["ao_difference_to_first"]["mean"] == pytest.approx(
        evaluations[1].measures.ao_clips - evaluations[0].measures.ao_clips
    )
    assert compare(*evaluations) is not None
    plot_success(evaluations, tmp_path / "success.png")
    assert (tmp_path / "success.png").stat().st_size > 5000


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_got10k(tmp_path / "data"), tmp_path / "out"
    words = ["accuracy", "--data", str(data), "--baseline", "static,ncc", "--out", str(out)]
    assert run(app, words) == 0
    assert "Mean over clips" in capsys.readouterr().out
    assert run(app, [*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in report["trackers"]] == ["static", "ncc"]
    assert json.loads((out / "report.json").read_text())["trackers"][1]["measures"]["clips"] == 2
    assert (out / "success.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["accuracy", "--data", "nowhere", "--baseline", "static"], "no such file or folder"),
        (["accuracy", "--data", "{data}"], "nothing to run"),
        (["accuracy", "--data", "{data}", "--baseline", "sift"], "no baseline is called sift"),
        (["accuracy", "--data", "{data}", "--baseline", "ncc,ncc"], "ncc twice"),
        (["accuracy", "{data}", "--data", "{data}"], "bundle"),
        (["accuracy"], "--data"),
        (
            ["accuracy", "--data", "{data}", "--baseline", "static", "--out", "{data}/list.txt"],
            "cannot be made",
        ),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_got10k(tmp_path / "data")
    assert run(app, [word.format(data=data) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"name": "../../outside"}, "cannot name a folder"), ({"batch": 2}, "needs batch 1")],
)
def test_bundles_that_cannot_be_contestants(fields: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"name": "tiny", "batch": 1, **fields}
    with pytest.raises(UserError, match=message):
        bundle_contestant(SimpleNamespace(**given), "onnxruntime", "fp32", None)  # type: ignore[arg-type]
