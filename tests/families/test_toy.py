"""A family is one folder and one dict entry: a toy goes from training through every command."""

import csv
import json

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from jntrt.bench.cli import app as bench_app
from jntrt.bench.latency.plain_network import plain_backends
from jntrt.bench.latency.report import published_figure
from jntrt.bench.latency.worker import TimedEngine, open_engine
from jntrt.bench.sequences.clips import load_clips
from jntrt.calib.cli import app as calib_app
from jntrt.export import families
from jntrt.export.cli import app as export_app
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError
from jntrt.train.cli import app as train_app
from jntrt.train.run.measure import PlainTracker

from ..bench.tiny import write_got10k
from ..train.conftest import draw_data, walking_square
from .toy import family as toy_family
from .toy.bundle import SQUARE, join_families, leaving_square, seeing_grey, write_clips, write_toy

CONFIG = {
    "family": "toy",
    "recipe": {"template_size": 32, "search_size": 64},
    "steps": 10,
    "batch": 4,
    "lr": 0.05,
    "shift": 0.5,  # a setting of the toy's own
    "synthetic": 1.0,
}


@pytest.fixture(scope="module", autouse=True)
def _listed():
    with pytest.MonkeyPatch.context() as patch:
        join_families(patch)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of ten steps, its folder."""
    folder = tmp_path_factory.mktemp("trained")
    data = draw_data(folder / "data")
    (folder / "toy.yaml").write_text(yaml.safe_dump(CONFIG))
    words = ["--config", str(folder / "toy.yaml"), "--data", str(data), "--out", str(folder / "run")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jntrt.train.run.training.LOG_EVERY", 1)
        assert run(train_app, [*words, "--steps", "4", "--workers", "0"]) == 0
        assert run(train_app, [*words, "--workers", "0"]) == 0  # goes on
    return folder / "run"


@pytest.fixture(scope="module")
def checkpoint(trained):
    """The trained weights through `finish`, without what it says beside them."""
    folder = trained.parent
    assert run(train_app, ["finish", str(trained), str(folder / "out"), "--name", "toy"]) == 0
    save_file(load_file(folder / "out" / "toy.safetensors"), folder / "alone.safetensors")
    return folder / "alone.safetensors"


@pytest.fixture(scope="module")
def bundle(checkpoint):
    """The trained toy for two targets: `export-jn` recognises it by its weights alone."""
    folder = checkpoint.parent / "pair"
    words = [str(checkpoint), "-o", str(folder), "--batch", "2", "--presence-threshold", "0.4"]
    assert run(export_app, words) == 0
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def single(checkpoint):
    """The trained toy for one target."""
    assert run(export_app, [str(checkpoint), "-o", str(checkpoint.parent / "single")]) == 0
    return Bundle.open(checkpoint.parent / "single")


def test_ten_steps_change_the_weights_and_the_log_has_the_toys_parts(trained):
    with (trained / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 11))
    assert all(float(row["l1"]) > 0 and float(row["bce"]) > 0 for row in rows)
    first, last = (np.mean([float(row["loss"]) for row in part]) for part in (rows[:3], rows[-3:]))
    assert last < first
    assert json.loads((trained / "state.json").read_text())["config"]["shift"] == 0.5


def test_a_run_is_measured(trained, tmp_path, capsys):
    sequence = walking_square(tmp_path / "sequences" / "a", 0)
    capsys.readouterr()
    assert run(train_app, ["measure", str(trained), str(sequence.parent), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["step"] == 10
    assert 0 <= figures["ao"] <= 1


def test_its_weights_say_whose_they_are(checkpoint, tmp_path, capsys):
    assert run(export_app, [str(checkpoint), "-o", str(tmp_path / "bundle"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["inferred"]
    assert rows[0] == {"what": "recognised as", "value": "toy", "from": "weights: toy.mix"}


def test_the_bundle_is_whole_and_says_whose_it_is(bundle, capsys):
    assert (bundle.family, bundle.batch, bundle.presence_threshold) == ("toy", 2, 0.4)
    assert bundle.recipe == {"template_size": 32, "search_size": 64, "gain": 50.0}
    assert bundle.manifest["state_inputs"] == {"previous_size": "size"}
    assert bundle.manifest["state"] == {"clip": "centre", "least_size": 6}
    assert bundle.search.border == bundle.template.border == "mean"
    assert bundle.takes("track", "previous_size")
    assert bundle.entry("fp32")["check"]["passed"] is True
    assert run(export_app, ["check", str(bundle.path)]) == 0
    assert run(export_app, ["inspect", str(bundle.path)]) == 0
    assert "gain" in capsys.readouterr().out


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_both_engines_track_as_the_plain_form_does(backend, tmp_path):
    """Two targets, one that leaves the frame and one under the least size, against training's loop."""
    frames, truth = leaving_square()
    starts = [tuple(truth[0]), (60.0, 40.0, 4.0, 3.0)]
    plain = [PlainTracker(toy_family, seeing_grey()) for _ in starts]
    with Tracker.from_bundle(write_toy(tmp_path / "grey", batch=2), backend=backend, threads=1) as tracker:
        tracker.init(frames[0], starts)
        for one, start in zip(plain, starts, strict=True):
            one.init(frames[0], start)
        for frame in frames[1:]:
            result = tracker.update(frame)
            expected = [one.update(frame) for one in plain]
            np.testing.assert_allclose(result.box, [box for box, _ in expected], atol=1e-3)
            np.testing.assert_allclose(result.score, [score for _, score in expected], atol=1e-5)
            assert result.box[1, 2:] == pytest.approx((6, 6), abs=1e-4)
    assert result.box[0, 0] + result.box[0, 2] / 2 == pytest.approx(96)  # the centre stays in the frame
    assert result.box[0, 2:] == pytest.approx(SQUARE, abs=1e-4)  # and the box is not cut


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_it_is_calibrated_and_passes_its_gate(precision, tmp_path, capsys):
    bundle = write_toy(tmp_path / "grey")
    data = write_clips(tmp_path / "data")
    words = [str(bundle.path), "--data", str(data), "--precision", precision, "--threads", "1"]
    assert run(calib_app, [*words, "--crops", "40", "--gate-crops", "12", "--json"]) == 0
    gate = json.loads(capsys.readouterr().out)["gate"]
    assert gate["passed"] is True
    if precision == "int8":
        assert gate["int8_share"] == 1
    changed = Bundle.open(bundle.path)
    clip = load_clips(data)[0]
    boxes = []
    for name in ("fp32", precision):
        frames = clip.frames()
        with Tracker.from_bundle(changed, "onnxruntime", name, threads=1) as tracker:
            tracker.init(next(frames), clip.boxes[0])
            boxes.append([tracker.update(frame).box for frame in frames])
    np.testing.assert_allclose(boxes[0], clip.boxes[1:], atol=6)  # it tracks
    np.testing.assert_allclose(boxes[1], boxes[0], atol=1.5)
    assert not np.array_equal(boxes[1], boxes[0]) or precision == "fp16"


@pytest.mark.parametrize("kind", ["eager", "naive"])
def test_the_benches_plain_form_gives_what_the_graphs_gave(kind, bundle, checkpoint):
    with np.load(bundle.parity()) as file:
        stored = {name: array[:2] for name, array in file.items()}
    template, track = plain_backends(bundle, kind, 1, checkpoint)
    memory = template.run({"template": stored["template"]})
    found = track.run({"search": stored["search"], "previous_size": stored["previous_size"], **memory})
    for name in ("box", "score"):
        np.testing.assert_allclose(found[name], stored[name], atol=1e-5)
    assert published_figure(bundle).model == "toy"


@pytest.mark.parametrize("kind", ["eager", "naive"])
def test_the_plain_form_is_timed(kind, bundle):
    """A whole frame with random weights, as the latency's processes run it."""
    frame = np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    box = (20.0, 30.0, 22.0, 18.0)
    with open_engine(TimedEngine(kind, str(bundle.path), "", box, kind=kind, threads=1)) as tracker:
        tracker.init(frame, [box, box])
        assert np.isfinite(tracker.update(frame).box).all()
        assert tracker.stage_ms["network"] > 0
        assert tracker.describe()["backend"] == kind


def test_its_latency(single, tmp_path, capsys):
    words = ["latency", str(single.path), "--threads", "1", "--rounds", "2", "--frames", "3"]
    words += ["--save", str(tmp_path)]
    assert run(bench_app, [*words, "--backend", "onnxruntime,openvino", "--json"]) == 0
    engines = json.loads(capsys.readouterr().out)["engines"]
    assert [engine["stages_ms"]["network"]["p50"] > 0 for engine in engines] == [True, True]
    assert engines[0]["published"]["model"] == "toy"


def test_its_accuracy_with_the_checkpoint_beside_it(single, checkpoint, tmp_path, capsys):
    data = write_got10k(tmp_path / "data", names=("A",))
    words = ["accuracy", str(single.path), "--plain", str(checkpoint), "--backend", "onnxruntime"]
    words += ["--threads", "1", "--data", str(data), "--out", str(tmp_path / "out"), "--json"]
    assert run(bench_app, words) == 0
    fast, plain = json.loads(capsys.readouterr().out)["trackers"]
    assert plain["name"] == "single-plain-torch"
    assert plain["measures"]["ao_frames"] == pytest.approx(fast["measures"]["ao_frames"], abs=1e-3)
    files = [tmp_path / "out" / "GOT-10k" / entry["name"] / "A" / "A_001.txt" for entry in (fast, plain)]
    boxes = [np.loadtxt(path, delimiter=",") for path in files]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=0.01)


def test_its_flag_is_a_flag_of_the_command_and_of_no_other_family():
    said = families.command_flags().__dataclass_fields__.keys()
    assert {"gain", "ce_layers", "family"} <= said
    assert families.family_flags("toy", {"gain": 3.0}).gain == 3.0
    with pytest.raises(UserError, match="--gain: not for the family ostrack"):
        families.family_flags("ostrack", {"gain": 3.0})


def test_weights_of_no_family_are_one_line(tmp_path, capsys):
    save_file({"stem.weight": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    assert run(export_app, [str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "b")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "toy) knows these weights" in told
    assert "'stem.weight'" in told
    assert not (tmp_path / "b").exists()
