"""What is timed and how it is said. No test here depends on how fast this machine is."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jntrt.bench.cli import app
from jntrt.bench.latency.measure import Latency, Timing, measure_latency, speed_ratio
from jntrt.bench.latency.report import print_report, published_figure, to_dict
from jntrt.bench.latency.timed_engines import plan_engines, video_box
from jntrt.bench.latency.whole_command import Whole, print_whole, time_whole
from jntrt.bench.latency.worker import STAGES, TimedEngine, Worker, open_engine
from jntrt.bench.machine import Moment, describe_machine, moment, quiet_check, spin
from jntrt.bench.report.documents import read
from jntrt.bench.report.measured.engines import engine_entry
from jntrt.export.pipeline import export_checkpoint
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.engines.remembered import remembered_backend
from jntrt.runtime.errors import UserError

from ..sequences.test_clips import write_video
from ..tiny import write_got10k

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
BOX = (20.0, 16.0, 16.0, 12.0)


@pytest.fixture(autouse=True)
def _saved_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are saved below the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The golden JN checkpoint's bundle."""
    path = tmp_path_factory.mktemp("bundle") / "tiny-jn"
    export_checkpoint(
        GOLDEN / "jn" / "JN_ep0060.pth.tar", path, config=GOLDEN / "jn" / "jn256" / "config.yaml"
    )
    return Bundle.open(path)


@pytest.fixture
def video(tmp_path: Path) -> str:
    write_video(tmp_path / "clip.mp4")
    return str(tmp_path / "clip.mp4")


def timing(label: str, milliseconds: np.ndarray, **fields: object) -> Timing:
    """A made-up timing: every stage takes the given rounds×frames milliseconds."""
    engine = TimedEngine(label, "b", "v", BOX, **fields)  # type: ignore[arg-type]
    description = {"backend": "onnxruntime", "version": "1.2.3-abc", "threads": 2}
    return Timing(engine, description, np.repeat(milliseconds[..., None], len(STAGES), axis=2))


def test_a_worker_times_every_stage_in_another_process(bundle: Bundle, video: str) -> None:
    engine = TimedEngine("tiny", str(bundle.path), video, BOX, backend="onnxruntime", threads=1)
    with Worker(engine) as worker:
        assert worker.description["backend"] == "onnxruntime"
        first, second = worker.run(3), worker.run(6)  # the video has 4 frames: it starts again
    assert first.shape == (3, len(STAGES) + 1)
    assert second.shape == (6, len(STAGES) + 1)
    assert (second > 0).all()
    decode, crop, network, box, frame, whole, _ = second.T
    assert (crop + network + box <= frame).all()
    np.testing.assert_allclose(whole, decode + frame)


def test_an_engine_runs_its_rounds_in_several_processes(bundle: Bundle, video: str) -> None:
    engine = TimedEngine("tiny", str(bundle.path), video, BOX, backend="onnxruntime", threads=1)
    steps: list[str] = []
    found = measure_latency([engine], rounds=5, frames=2, starts=2, warmup=1, on_step=steps.append)
    (timing,) = found.timings
    assert timing.starts.tolist() == [0, 0, 0, 1, 1]
    assert timing.milliseconds.shape == (5, 2, len(STAGES))
    assert timing.reference.shape == (5, 2)
    assert (np.diff(timing.seconds) > 0).all()
    assert len(steps) == 2 + 5
    assert (timing.over_reference("frame") > 0).all()


def test_a_worker_that_was_killed_says_so(bundle: Bundle, video: str) -> None:
    engine = TimedEngine("tiny", str(bundle.path), video, BOX, backend="onnxruntime", threads=1)
    with Worker(engine) as worker:
        worker._process.kill()
        worker._process.join()
        with pytest.raises(UserError, match=r"tiny: its process ended by itself \(exit code -9\)"):
            worker.run(1)


def test_ctrl_c_while_a_worker_starts_is_the_parents(bundle: Bundle, video: str) -> None:
    """The terminal sends it to every process of the group; the child's first second is imports."""
    code = f"""
import multiprocessing, os, signal, sys, threading, time
from jntrt.bench.latency.whole_command import Whole, print_whole, time_whole
from jntrt.bench.latency.worker import TimedEngine, Worker
def interrupt():
    while not multiprocessing.active_children():
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(0, signal.SIGINT)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        words = "tiny", {str(bundle.path)!r}, {video!r}, {BOX!r}
        with Worker(TimedEngine(*words, backend="onnxruntime", threads=1)):
            time.sleep(10)  # a fast machine is ready before the signal comes
    except KeyboardInterrupt:
        sys.exit(130)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_worker_that_cannot_start_says_why(bundle: Bundle, video: str) -> None:
    engine = TimedEngine("tiny", str(bundle.path), video, BOX, backend="onnxruntime", precision="int8")
    with pytest.raises(UserError, match="tiny: bundle tiny-jn has no precision int8"):
        Worker(engine)


def test_the_plain_form_with_the_checkpoint_tracks_like_the_bundle(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same AO, to rounding, through the command and its stored files."""
    data = write_got10k(tmp_path / "data", names=("A",))
    checkpoint = str(GOLDEN / "jn" / "JN_ep0060.pth.tar")
    words = ["accuracy", str(bundle.path), "--plain", checkpoint, "--backend", "onnxruntime"]
    words += ["--threads", "1", "--data", str(data), "--out", str(tmp_path / "out"), "--json"]
    assert run(app, words) == 0
    fast, plain = json.loads(capsys.readouterr().out)["trackers"]
    assert plain["name"] == "tiny-jn-plain-torch"
    assert plain["measures"]["ao_frames"] == pytest.approx(fast["measures"]["ao_frames"], abs=1e-3)
    results = [tmp_path / "out" / "GOT-10k" / entry["name"] / "A" / "A_001.txt" for entry in (fast, plain)]
    boxes = [np.loadtxt(path, delimiter=",") for path in results]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=0.01)


@pytest.mark.slow
def test_the_naive_export_is_the_same_network(bundle: Bundle) -> None:
    frame = np.random.default_rng(1).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    box = (60.0, 40.0, 30.0, 24.0)
    results = []
    for kind in ("eager", "naive"):
        with open_engine(TimedEngine(kind, str(bundle.path), "", box, kind=kind, threads=1)) as tracker:
            tracker.init(frame, box)
            results.append(tracker.update(frame))
    np.testing.assert_allclose(results[0].box, results[1].box, atol=1e-3)


def test_ratios_are_medians_of_rounds() -> None:
    ours = timing("ours", np.array([[1.0, 1, 9], [2, 2, 2], [4, 4, 4]]))
    theirs = timing("theirs", np.array([[3.0, 3, 3], [4, 4, 40], [8, 8, 8]]))
    assert speed_ratio(ours, theirs, "network") == 2  # per round 3, 2, 2: clock changes cancel
    summary = ours.summary()["frame"]
    assert summary["p50"] == 2
    assert summary["mean"] == pytest.approx(29 / 9)
    assert summary["fps"] == pytest.approx(1000 * 9 / 29)


def test_rounds_are_ratios_of_pairs() -> None:
    """A slow moment meets a frame and the product after it: it is in neither round."""
    product = np.array([[1.0, 2, 2], [4, 1, 1]])
    found = dataclasses.replace(timing("ours", np.array([[3.0, 6, 6], [12, 3, 9]])), reference=product)
    assert found.over_reference("frame").tolist() == [3, 3]


def test_tables_and_json(bundle: Bundle) -> None:
    times = np.random.default_rng(0).uniform(1, 200, (3, 5))
    timings = (timing("ours onnxruntime fp32", times), timing("ours eager", 3 * times, kind="eager"))
    latency = Latency(timings, {"warnings": [], "steal_share": 0, "other_processes_share": 0.01})
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_report(latency, {"b": bundle}, console)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    for term in ("decode", "crop", "network", "box", "frame", "whole", "p99", "random weights", "3.00"):
        assert term in text
    report = to_dict(latency, {"b": bundle}, describe_machine())
    json.dumps(report, allow_nan=False)
    assert report["engines"][0]["bundle_sha256"] == bundle.sha256
    assert report["engines"][0]["times_as_fast_as_last"]["frame"] == pytest.approx(3)
    assert report["engines"][1]["graph_sha256"] is None
    assert report["machine"]["versions"]["jntrt"]


def test_a_bundle_of_an_unknown_family_has_no_published_figure(bundle: Bundle) -> None:
    assert published_figure(dataclasses.replace(bundle, family="newer")) is None


def test_engines_of_a_run(bundle: Bundle) -> None:
    def plan(against: list[str], bundles: list[Bundle]) -> list[TimedEngine]:
        return plan_engines(
            bundles,
            backends=["onnxruntime", "openvino"],
            precisions=["fp32"],
            threads=[1, 2],
            against=against,
            source="clip.mp4",
            box=BOX,
        )

    engines = plan(["eager"], [bundle])
    assert len(engines) == 6
    assert engines[-1].kind == "eager"
    assert engines[0].label == "tiny-jn onnxruntime fp32, 1 threads"
    with pytest.raises(UserError, match="--against jax"):
        plan(["jax"], [bundle])
    with pytest.raises(UserError, match="twice in this run"):
        plan([], [bundle, bundle])


def test_the_target_in_a_video(video: str) -> None:
    assert video_box(Path(video), "1,2,3,4")[1] == (1, 2, 3, 4)
    assert video_box(Path(video), "")[1] == (28, 21, 8, 6)


def test_an_unquiet_machine_is_reported() -> None:
    before = Moment(total=100, idle=50, steal=0, own=10, megahertz=None)
    busy = Moment(total=200, idle=60, steal=10, own=40, megahertz=None)
    report = quiet_check(before, busy, (1.0, 1.5))
    assert report["steal_share"] == pytest.approx(0.1)
    assert report["other_processes_share"] == pytest.approx(0.5)
    assert len(report["warnings"]) == 3
    alone = Moment(total=200, idle=100, steal=0, own=58, megahertz=None)
    assert quiet_check(before, alone, (1.0, 1.02))["warnings"] == []
    assert moment().total > 0
    assert spin() > 0


def test_the_command(bundle: Bundle, video: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latency", str(bundle.path), "--video", video, "--init", "20,16,16,12", "--threads", "1"]
    words += ["--backend", "onnxruntime", "--rounds", "2", "--frames", "2"]
    assert run(app, [*words, "--json"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert engine["rounds"] == 2
    assert engine["stages_ms"]["network"]["p50"] > 0
    assert engine["published"] is None
    assert engine["engine"]["idle threads"] == "sleep"
    (saved,) = Path("bench-results").iterdir()
    document = read(saved)
    assert (document["engines"][0]["bundle"], len(document["engines"][0]["rounds"])) == ("tiny-jn", 2)
    assert "tiny-jn" in (saved / "report.html").read_text()
    assert run(app, [*words, "--spin"]) == 0
    assert "threads: 1, idle ones spin" in " ".join(capsys.readouterr().out.split())


def test_the_fastest_is_kept_where_that_is_wished(
    bundle: Bundle,
    video: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [
        "latency",
        str(bundle.path),
        "--video",
        video,
        "--threads",
        "1",
        "--rounds",
        "1",
        "--frames",
        "2",
    ]
    words += ["--backend", "onnxruntime,openvino"]
    assert run(app, words) == 0
    assert not (tmp_path / "cache").exists()
    capsys.readouterr()
    assert run(app, [*words, "--remember", "--json"]) == 0
    out, err = capsys.readouterr()
    p50 = {e["engine"]["backend"]: e["stages_ms"]["frame"]["p50"] for e in json.loads(out)["engines"]}
    best = min(p50, key=p50.__getitem__)
    assert f"auto now takes {best} for fp32 with tiny-jn: " in err
    assert remembered_backend(bundle, find_precision("fp32")) == best


def test_the_whole_command(bundle: Bundle, video: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pipeline", str(bundle.path), "--video", video, "--init", "20,16,16,12", "--threads", "1"]
    assert run(app, [*words, "--backend", "onnxruntime", "--rounds", "1", "--json"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert engine["frames"] == 4
    assert engine["seconds"] > 0
    assert engine["cpu_seconds"] > 0
    assert engine["fps"] == pytest.approx(4 / engine["seconds"])
    assert run(app, ["list"]) == 0
    assert "tiny-jn  1 whole command," in capsys.readouterr().out
    (saved,) = Path("bench-results").iterdir()
    assert read(saved)["pipeline"][0]["rounds"][0]["reference_ms"] > 0
    assert "tiny-jn onnxruntime fp32 | 4 |" in (saved / "report.md").read_text()
    assert run(app, ["compare", str(saved), str(saved)]) == 2
    assert "whole command: 1 rounds are too few" in capsys.readouterr().err


def test_the_plain_form_is_saved_without_the_graphs_digests(bundle: Bundle) -> None:
    engine = TimedEngine("tiny-jn eager", str(bundle.path), "v", BOX, kind="eager")
    times = np.ones((2, 3, len(STAGES)))
    found = Timing(engine, {"backend": "eager"}, times, np.ones((2, 3)), np.arange(2.0), {}, np.array([0, 1]))
    entry = engine_entry(found, bundle, Latency((found,), {}))
    assert (entry["graph_sha256"], entry["gate"], entry["check"]) == (None, None, None)
    ours = dataclasses.replace(found, engine=dataclasses.replace(engine, kind="bundle", precision="fp32"))
    assert engine_entry(ours, bundle, Latency((ours,), {}))["check"]["passed"]
    bf16 = dataclasses.replace(ours, engine=dataclasses.replace(ours.engine, precision="bf16"))
    entry = engine_entry(bf16, bundle, Latency((bf16,), {}))
    assert entry["check"] is None  # fp32's says nothing of it
    assert entry["graph_sha256"] is not None


def test_a_whole_command_that_fails_says_its_line(bundle: Bundle, video: str) -> None:
    engine = TimedEngine("tiny", str(bundle.path), video, (9e3, 9e3, 5, 5), backend="onnxruntime")
    with pytest.raises(UserError, match=r"^tiny: trtrun: .*outside"):
        time_whole([engine], rounds=1)


def test_the_table_of_whole_commands() -> None:
    engine = TimedEngine("tiny onnxruntime", "b", "v", BOX)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_whole([Whole(engine, 100, (2.0, 4.0, 5.0), (1.0, 3.0, 9.0))], console)
    assert "tiny onnxruntime 100 4.00 25.0 3.00" in " ".join(console.export_text().split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pipeline", "nowhere"], "nowhere"),
        (["pipeline", "--rounds", "0"], "--rounds"),
        (["pipeline", "--init", "1,2,3,4"], "--video"),
        (["latency", "{bundle}", "--remember"], "--backend onnxruntime,openvino"),
        (["latency", "nowhere"], "nowhere"),
        (["latency", "{bundle}", "--video", "nowhere.mp4"], "nowhere.mp4"),
        (["latency", "{bundle}", "--video", "{video}", "--init", "1,2"], "--init"),
        (["latency", "{bundle}", "--video", "{video}", "--backend", "magic"], "magic"),
        (["latency", "{bundle}", "--rounds", "0"], "--rounds"),
        (["latency", "{bundle}", "--init", "1,2,3,4"], "--video"),
        (["latency", "{bundle}", "--video", "{video}", "--threads", "two"], "--threads"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, bundle: Bundle, video: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, [word.format(bundle=bundle.path, video=video) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
