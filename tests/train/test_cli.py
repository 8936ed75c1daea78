"""`train-jn` from end to end at a tiny size, its files, its mistakes in one line."""

import json

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from jntrt.bench.sequences.clips import load_clips
from jntrt.export.experiment_yaml import read_experiment_yaml
from jntrt.export.families.ostrack import family as ostrack
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.bundle.conventions import CropSpec
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError
from jntrt.train.cli import app
from jntrt.train.data.coco import load_coco
from jntrt.train.data.videos import VideoPairs
from jntrt.train.data.write_sequences import write_sequences
from jntrt.train.run.commands import find_sequences
from jntrt.train.run.config import CONFIGS, TrainConfig, load_config
from jntrt.train.run.measure import PlainTracker, measure, separate
from jntrt.train.run.reference_files import write_reference


def test_train_measure_finish(data, tiny_file, tmp_path, draw_sequence, capsys):
    folder = tmp_path / "run"
    train = ["--config", str(tiny_file), "--data", str(data), "--out", str(folder), "--steps", "2"]
    assert run(app, [*train, "--workers", "0"]) == 0
    weights = load_file(folder / "weights.safetensors")
    assert weights["backbone.pos_embed_x"].shape == (1, 16, 32)
    draw_sequence(tmp_path / "sequences" / "a", 0, gone=(5, 6))
    capsys.readouterr()
    assert run(app, ["measure", str(folder), str(tmp_path / "sequences"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["step"] == 2
    assert 0 <= figures["ao"] <= 1
    assert 0 <= figures["auroc"] <= 1
    out = tmp_path / "reference"
    finish = ["finish", str(folder), str(out), "--name", "tiny", "--threshold"]
    assert run(app, [*finish, "7"]) == 2
    assert run(app, [*finish, "0.2"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["tiny.safetensors", "tiny.yaml", "training.png"]
    assert load_file(out / "tiny.safetensors")["backbone.pos_embed_x"].dtype == np.float16
    # Under its name, it goes on where it was: nothing is left to do.
    assert run(app, [*train, "--workers", "0"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "jn-none", "--data", "."], "no such configuration; there are ablation"),
        (["--config", "jn-nano", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["measure", "nowhere", "."], "nowhere: no training state"),
        (["sequences", "--data", ".", "--out", "x", "--frames", "3"], "at least 30 frames"),
        (["sequences", "--data", ".", "--out", "x", "--seed=-1"], "--seed at least 0"),
        (["measure", "nowhere", ".", "--limit", "0"], "--limit 0: has to be at least 1"),
        (["--config", "jn-nano", "--data", ".", "--out", "text"], "text: a file; name a folder"),
        (["finetune", "--from", "jn-nano", "--data", ".", "--out", "text"], "text: a file; name a folder"),
        (["sequences", "--data", ".", "--out", "x", "--look", "night"], '"daylight", "infrared"'),
        (["--config", "jn-nano", "--data", ".", "--workers=-1"], "--workers has to be at least 0"),
        (
            ["--config", "jn-nano", "--data", ".", "--teacher", "."],
            "nanotrack_backbone_sim-opt.param: no such",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").touch()
    assert run(app, arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_all_configurations_can_be_read():
    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    assert {"jn-256", "jn-384", "jn-nano", "ostrack-256", "ostrack-384"} <= set(names)
    for name in names:
        config = load_config(name)
        assert config.name == name
        if config.family == "ostrack":
            assert len(config.recipe.keep_counts) == len(config.recipe.ce_layers)
    assert load_config("jn-256").recipe.search_count == 256


def test_a_state_of_before_there_were_families_is_read(tiny):
    """It says its family in the recipe alone, under the name of its paper."""
    values = json.loads(json.dumps(tiny.to_dict()))
    assert values.pop("family") == "ostrack"
    assert (values["recipe"]["family"], values["ce_start"]) == ("jn", 2)
    assert TrainConfig.from_dict(values, "state") == tiny


def test_odd_configurations_are_refused(tmp_path, tiny_file):
    for text, message in (
        ("[1]", "no table in it"),
        ("steps: [", "no YAML"),
        ("steps: &a [1]\nbatch: *a", "an anchor or alias"),
        ("recipe: !!python/object/apply:os.getcwd []", "a tag"),
        ("steps: 3", "recipe"),
        ("family: ostrack\nrecipe: {dims: 3}", "unknown keys dims"),
        (tiny_file.read_text().replace("lr: 0.001", "lr: much"), "lr 'much' is not a number"),
        (tiny_file.read_text().replace("batch: 4", "batch: 2.5"), "batch 2.5 is not a whole number"),
        (
            tiny_file.read_text().replace("drop_path: 0.0", "drop_path: 1"),
            "drop_path 1 has to be between 0 and 0.99",
        ),
        (tiny_file.read_text().replace("bins: 17", "bins: 0"), "needs bins"),
        ("recipe: {}\nsteps: 3", "the key family is missing"),
        ("family: none\nrecipe: {}", "family 'none' is unknown; there are ostrack"),
        ("family: ostrack\nrecipe: {}\nspeed: 3", "unknown keys speed"),
        ("family: ostrack\nrecipe: {}\nsteps: 3", "recipe is incomplete"),
    ):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            load_config(str(tmp_path / "odd.yaml"))


def test_the_validation_set_repeats_and_can_be_read(data, tmp_path):
    for name in ("a", "b"):
        write_sequences(data, tmp_path / name, count=2, frames=30, seed=5)
    for first, second in zip(*(load_clips(tmp_path / name) for name in ("a", "b")), strict=True):
        assert len(first) == 30
        assert first.absence_annotated
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.frame(7), second.frame(7))
    with pytest.raises(UserError, match="not empty"):
        write_sequences(data, tmp_path / "a")
    write_sequences(data, tmp_path / "warm", count=1, frames=30, seed=5, look="infrared")
    warm, plain = (load_clips(tmp_path / name)[0] for name in ("warm", "a"))
    np.testing.assert_array_equal(warm.frame(7)[..., 0], warm.frame(7)[..., 2])
    np.testing.assert_array_equal(warm.boxes, plain.boxes)


def test_separation():
    auroc, _ = separate(np.array([0.9, 0.8, 0.4]), np.array([0.1, 0.4]))
    assert auroc == pytest.approx(5.5 / 6)
    assert separate(np.linspace(0, 1, 101), np.array([0.1]))[1] == pytest.approx(0.03)
    auroc, threshold = separate(np.array([0.5]), np.array([]))
    assert np.isnan(auroc)
    assert threshold == 0.5


def test_an_untrained_network_tracks_inside_the_frame(tiny, tmp_path, draw_sequence):
    sequences = load_clips(draw_sequence(tmp_path / "a", 0))
    model = OSTrack(tiny.recipe)
    figures = measure(ostrack, model, sequences)
    assert 0 <= figures["ao"] <= 1
    assert np.isnan(figures["auroc"])
    tracker = PlainTracker(ostrack, model)
    tracker.init(sequences[0].frame(0), (20.0, 30.0, 22.0, 18.0))
    (x, y, w, h), score = tracker.update(sequences[0].frame(1))
    assert x + w > 0
    assert y + h > 0
    assert x < 120
    assert 0 <= score <= 1


def test_the_recipe_is_written_as_its_family_reads_it(tiny, tmp_path):
    recipe = Recipe.from_dict(tiny.recipe.to_dict() | {"template_tokens": "rect", "search_factor": 3.5})
    state = OSTrack(recipe).state_dict()
    weights, file = write_reference(state, ostrack.experiment(recipe), tmp_path, "x", 0.123456, "MIT")
    arrays = {name: value.astype(np.float32) for name, value in load_file(weights).items()}
    inferred = ostrack.infer(arrays, read_experiment_yaml(file), ostrack.Flags(), ())
    assert inferred.recipe == recipe
    assert (inferred.presence_threshold, inferred.license, inferred.weights) == (0.123, "MIT", "trained")
    _, file = write_reference(state, {}, tmp_path, "y", None, "MIT")
    assert read_experiment_yaml(file).presence_threshold is None
    state["backbone.norm.weight"] = state["backbone.norm.weight"] + 1e6
    with pytest.raises(UserError, match=r"backbone\.norm\.weight"):
        write_reference(state, {}, tmp_path, "x", None, "x")
    with pytest.raises(UserError, match="without folders"):
        write_reference(state, {}, tmp_path, "a/x", None, "x")


def test_coco(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    cv2.imwrite(str(tmp_path / "train2017" / "7.jpg"), np.full((80, 100, 3), 90, np.uint8))
    boxes = [(1, [10, 10, 30, 40], 0), (2, [5, 5, 3, 3], 0), (3, [0, 0, 90, 70], 1)]
    content = {
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "annotations": [{"id": i, "image_id": 7, "bbox": b, "iscrowd": c} for i, b, c in boxes],
    }
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content))
    (sequence,) = find_sequences(tmp_path)
    assert sequence.name == "coco-1"
    first, second = VideoPairs([sequence], CropSpec(128, 4.0)).draw(np.random.default_rng(0), absent=False)
    assert first.box == second.box == (10.0, 10.0, 30.0, 40.0)
    path.write_text("{}")
    with pytest.raises(UserError, match="not COCO"):
        load_coco(tmp_path)


@pytest.mark.parametrize("layout", ["got10k", "lasot", "trackingnet"])
def test_the_large_sets_layouts_give_pairs(layout, tmp_path, draw_sequence):
    for number, name in enumerate(("a", "b")):
        drawn = draw_sequence(tmp_path / "drawn" / name, number)
        images = sorted(drawn.glob("*.png"))
        boxes = (drawn / "groundtruth.txt").read_text()
        if layout == "got10k":
            root = target = tmp_path / "set"
            drawn.rename((root.mkdir(exist_ok=True), root / name)[1])
        elif layout == "lasot":
            root = tmp_path / "set"
            target = root / "square" / name
            (target / "img").mkdir(parents=True)
            (target / "groundtruth.txt").write_text(boxes)
            for kind in ("full_occlusion", "out_of_view"):
                (target / f"{kind}.txt").write_text(",".join("0" * len(images)))
            for image in images:
                image.rename(target / "img" / image.name)
        else:
            root = tmp_path / "TRAIN_0"
            (root / "anno").mkdir(parents=True, exist_ok=True)
            (root / "anno" / f"{name}.txt").write_text(boxes)
            (root / "frames" / name).mkdir(parents=True)
            for index, image in enumerate(images):
                image.rename(root / "frames" / name / f"{index}.png")
    videos = VideoPairs(find_sequences(root), CropSpec(128, 4.0))
    first, second = videos.draw(np.random.default_rng(0), absent=False)
    for still in (first, second):
        assert still.box is not None
        x, y, w, h = (int(v) for v in still.box)
        assert still.image[y + h // 2, x + w // 2].max() >= 100


def test_reference_goes_on_after_a_stop(data, tiny_file, tmp_path, monkeypatch):
    folder, out = tmp_path / "run", tmp_path / "reference"
    line = ["reference", "--data", str(data), "--teacher", str(tmp_path), "--config", str(tiny_file)]
    line += ["--run", str(folder), "--out", str(out), "--workers", "0"]

    def few(data, target):
        write_sequences(data, target, count=2, frames=30)

    def stopped(data, target):
        few(data, target)
        raise KeyboardInterrupt

    monkeypatch.setattr("jntrt.train.run.commands.write_sequences", stopped)
    assert run(app, line) == 130
    assert not out.exists()
    monkeypatch.setattr("jntrt.train.run.commands.write_sequences", few)
    assert run(app, line) == 0
    assert sorted(p.name for p in out.iterdir()) == ["tiny.safetensors", "tiny.yaml", "training.png"]
    assert sorted(p.name for p in (folder / "validation").iterdir())[0] == "list.txt"
