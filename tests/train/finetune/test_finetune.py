"""Fine-tuning from end to end on tiny networks: what each kind of data gets, and what a stop costs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jntrt.export.families import family
from jntrt.export.families.ostrack.objective import Objective, Settings
from jntrt.export.families.siamese.published import NETWORKS
from jntrt.runtime import Tracker
from jntrt.runtime.errors import GateError, UserError
from jntrt.train.cli import app
from jntrt.train.finetune import command
from jntrt.train.finetune.clips import gather
from jntrt.train.finetune.command import Request, finetune
from jntrt.train.finetune.judge import between, nearest_of_the_good
from jntrt.train.finetune.precision import bfloat16_is_faster
from jntrt.train.finetune.start import find_start
from jntrt.train.run.reference_files import write_reference


@pytest.fixture
def checkpoints(tiny, tmp_path):
    """A tiny JN and a tiny NanoTrack, as train-jn leaves them."""
    torch.manual_seed(3)
    for name, kind, recipe in (("jn", "ostrack", tiny.recipe), ("nano", "siamese", NETWORKS["tiny"])):
        experiment = {"family": kind, **family(kind).experiment(recipe)}
        write_reference(family(kind).plain(recipe).state_dict(), experiment, tmp_path, name, 0.3, "CC0-1.0")
    return {name: tmp_path / f"{name}.safetensors" for name in ("jn", "nano")}


@pytest.fixture
def clips(draw_sequence, tmp_path):
    for number in range(10):
        draw_sequence(tmp_path / "clips" / f"walk_{number}", number)
    return tmp_path / "clips"


@pytest.fixture
def request_of(checkpoints, clips, data, tmp_path):
    def made(kind="jn", **changes):
        asked = Request(
            str(checkpoints[kind]), clips, tmp_path / "out", "mine", data / "images", 8, workers=0, threads=1
        )
        return replace(asked, **changes)

    return made


@pytest.fixture
def any_gain(monkeypatch):
    """Random networks learn nothing in eight steps: the judges are made content."""
    monkeypatch.setattr(command, "nearest_of_the_good", lambda gains: 0.5)
    monkeypatch.setattr(command, "judge_model", lambda name, kind, model, clips: _judged(name, clips, 0.1))
    real = command.judge_bundle
    monkeypatch.setattr(command, "judge_bundle", lambda *given: _better(real(*given)))


def _judged(name, clips, ao):
    from jntrt.bench.sequences.evaluate import Evaluation
    from jntrt.bench.sequences.metrics import measure_clip, summarize

    rows = []
    for clip in clips:
        truth = np.asarray(clip.boxes)
        boxes = truth * (1, 1, ao, 1)
        rows.append(measure_clip(clip.name, boxes, truth, clip.visible, (120, 90)))
    return Evaluation(name, {}, summarize(rows), tuple(rows), 1.0, 1.0)


def _better(evaluation):
    return replace(evaluation, measures=replace(evaluation.measures, ao_clips=0.9))


@pytest.mark.parametrize("kind", ["jn", "nano"])
def test_clips_in_a_bundle_out(request_of, any_gain, kind, tmp_path):
    asked = request_of(kind)
    lines, figures = finetune(asked)
    assert len(figures["checks"]) >= 3
    assert figures["share"] == 0.5
    assert any("held-back clips" in line for line in lines)
    before, after = load_file(asked.start), load_file(tmp_path / "out" / "mine.safetensors")
    best = load_file(tmp_path / "out" / "best.safetensors")
    name = next(key for key, value in before.items() if value.ndim == 4)
    assert not torch.equal(before[name].float(), best[name])
    halfway = (before[name].float() + best[name]) / 2
    torch.testing.assert_close(after[name].float(), halfway, atol=2e-3, rtol=0)
    with Tracker.from_bundle(figures["bundle"], backend="onnxruntime", threads=1) as tracker:
        assert tracker.bundle.name == "mine"
        assert tracker.bundle.manifest["license"] == "CC0-1.0"
        tracker.init(np.zeros((90, 120, 3), np.uint8), (20, 30, 22, 18))
        assert np.isfinite(tracker.update(np.zeros((90, 120, 3), np.uint8)).box).all()


def test_a_run_that_is_killed_goes_on_to_the_same_weights(request_of, any_gain, monkeypatch, tmp_path):
    finetune(request_of(out=tmp_path / "straight"))

    class Killed(Exception):
        pass

    real, calls = command.train, []

    def once(*given, **options):
        calls.append(options["stop_at"])
        if len(calls) == 2:
            real(*given, **options | {"stop_at": options["stop_at"] - 1})
            raise Killed
        return real(*given, **options)

    monkeypatch.setattr(command, "train", once)
    with pytest.raises(Killed):
        finetune(request_of(out=tmp_path / "stopped"))
    assert not (tmp_path / "stopped" / "mine").exists()
    finetune(request_of(out=tmp_path / "stopped"))
    assert calls[1] == calls[2]
    straight, stopped = (load_file(tmp_path / name / "mine.safetensors") for name in ("straight", "stopped"))
    assert all(torch.equal(straight[key], stopped[key]) for key in straight)
    notes = json.loads((tmp_path / "stopped" / "finetune.json").read_text())
    assert notes["checks"] == json.loads((tmp_path / "straight" / "finetune.json").read_text())["checks"]
    with pytest.raises(UserError, match="begun with another steps"):
        finetune(request_of(out=tmp_path / "stopped", steps=12))


def test_what_gains_nothing_is_refused(request_of, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "nearest_of_the_good", lambda gains: 0.0)
    with pytest.raises(GateError, match="nothing was exported"):
        finetune(request_of())
    assert not (tmp_path / "out" / "mine").exists()


def test_checks_that_fall_end_the_run(request_of, any_gain, monkeypatch):
    falling = iter([0.5, 0.6, 0.4, 0.3])
    monkeypatch.setattr(command, "check", lambda *given: next(falling))
    _, figures = finetune(request_of())
    assert figures["checks"] == [[0, 0.5], [2, 0.6], [4, 0.4], [6, 0.3]]


def test_the_share_is_the_nearest_that_gains_enough():
    assert nearest_of_the_good({0.25: 0.02, 0.5: 0.12, 0.75: 0.132, 1.0: 0.139}) == 0.5
    assert nearest_of_the_good({0.25: -0.02, 0.5: 0.0, 0.75: -0.1, 1.0: -0.2}) == 0.0
    weights = between(
        {"w": torch.zeros(2), "n": torch.tensor(1)}, {"w": torch.ones(2), "n": torch.tensor(3)}, 0.25
    )
    assert weights["w"].tolist() == [0.25, 0.25]
    assert weights["n"] == 3


def test_parts_of_ten_clips_of_many_and_of_one(clips, draw_sequence, tmp_path):
    ten = gather(clips, tmp_path)
    assert [len(ten.taught), len(ten.choosing), len(ten.judging), ten.apart] == [8, 2, 2, False]
    for number in range(60):
        draw_sequence(tmp_path / "many" / f"walk_{number:02d}", number, frames=3)
    many = gather(tmp_path / "many", tmp_path)
    assert [len(many.taught), len(many.choosing), len(many.judging), many.apart] == [48, 6, 6, True]
    assert many.negatives
    one = gather(draw_sequence(tmp_path / "one" / "walk", 1, frames=60), tmp_path)
    assert [len(clip) for clip in (*one.taught, *one.judging)] == [48, 12]
    assert not one.negatives
    gone = gather(draw_sequence(tmp_path / "gone" / "walk", 1, frames=60, gone=(5, 6)), tmp_path)
    assert gone.negatives


def test_one_clip_without_gaps_teaches_without_negatives(request_of, any_gain, draw_sequence, tmp_path):
    one = draw_sequence(tmp_path / "one" / "walk", 1, frames=60)
    boxes = "".join(f"{20 + number % 8},30,22,18\n" for number in range(60))  # the square itself leaves
    (one / "groundtruth.txt").write_text(boxes)
    _, figures = finetune(request_of(data=one, out=tmp_path / "one-out"))
    assert figures["clips"] == ["walk"]
    assert not figures["apart"]
    assert find_start(request_of().start).config("x", None, negatives=False).positive == 1


def test_broken_clips_are_named_and_left_out(clips, tmp_path, draw_sequence):
    (clips / "walk_3" / "00000003.png").write_bytes(b"no picture")
    (clips / "walk_4" / "groundtruth.txt").write_text("1,2,3\n")
    draw_sequence(clips / "walk_x", 1, gone=(*range(1, 8),))
    material = gather(clips, tmp_path)
    assert sorted(name for name, _ in material.refused) == ["walk_3", "walk_4", "walk_x"]
    assert len(material.taught) + len(material.choosing) == 8
    with pytest.raises(UserError, match="nothing to teach"):
        gather(draw_sequence(tmp_path / "short" / "walk", 1), tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        gather(tmp_path / "nowhere", tmp_path)


def test_the_brake_measures_how_far_outputs_have_gone(checkpoints, tiny, data):
    settings = Settings(original=str(checkpoints["jn"]), brake=2.0)
    objective = Objective(replace(tiny.recipe), settings)
    model = objective.network()
    objective.initialise(model, str(checkpoints["jn"]), None, 0)
    rng = np.random.default_rng(0)
    size, search = tiny.recipe.template_size, tiny.recipe.search_size
    batch = {
        "template": torch.from_numpy(rng.integers(0, 255, (4, size, size, 3), np.uint8)),
        "search": torch.from_numpy(rng.integers(0, 255, (4, search, search, 3), np.uint8)),
        "target_box": torch.full((4, 4), 0.25),
        "box": torch.full((4, 4), 0.5),
        "present": torch.ones(4, dtype=torch.bool),
        "region": torch.tensor([True, True, False, False]),
    }
    model.eval()
    assert float(objective.loss(model, batch, 9)["brake"].detach()) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for parameter in model.box_head.parameters():
            parameter.mul_(1.5)
    assert float(objective.loss(model, batch, 9)["brake"].detach()) > 1e-3
    none = objective.loss(model, batch | {"region": torch.zeros(4, dtype=torch.bool)}, 9)
    assert float(none["brake"].detach()) == 0


def test_precision_is_measured_and_leaves_the_network_as_it_was(checkpoints, request_of):
    start = find_start(str(checkpoints["nano"]))
    config = start.config("x", None, negatives=True)
    objective = config.objective()
    model = objective.network()
    objective.initialise(model, config.start, None, 0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rng = np.random.default_rng(0)
    sizes = (config.recipe.template_size, config.recipe.search_size)
    crops = [torch.from_numpy(rng.integers(0, 255, (3, size, size, 3), np.uint8)) for size in sizes]
    batch = {
        **dict(zip(("template", "search"), crops, strict=True)),
        "box": torch.full((3, 4), 0.5),
        "present": torch.ones(3, dtype=torch.bool),
        "region": torch.tensor([True, False, False]),
    }
    faster, single, half = bfloat16_is_faster(objective, model, batch)
    assert single > 0
    assert faster == (half < 0.9 * single)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_wrong_words(capsys, clips, tmp_path):
    from jntrt.runtime.command.app import run

    for words, message in (
        (["--from", "nobody", "--data", str(clips)], "name one of jn-nano, nanotrack-v3, or a file"),
        (["--from", "jn-nano", "--data", str(clips), "--steps", "1"], "--steps 1: at least 4"),
        (["--from", "jn-nano", "--data", str(clips), "--pictures", str(clips / "x")], "no such folder"),
        (["--from", "jn-nano", "--data", str(clips), "--name", "a/b"], "a file's name without folders"),
    ):
        assert run(app, ["finetune", *words, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
