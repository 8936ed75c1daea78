"""A Siamese tracker fine-tuned by the loop: it begins with given weights, goes on, and ends half-way."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jntrt.bench.sequences.clips import load_clips
from jntrt.export.families.siamese.objective import Settings
from jntrt.export.families.siamese.published import NETWORKS
from jntrt.train.data.loader import Feed, loader
from jntrt.train.run.commands import finish_run, prepare, trained_on
from jntrt.train.run.config import TrainConfig, load_config
from jntrt.train.run.measure import averaged_model
from jntrt.train.run.training import train


@pytest.fixture
def original(tmp_path):
    torch.manual_seed(5)
    path = tmp_path / "original.safetensors"
    save_file(
        TrainConfig("x", "siamese", NETWORKS["tiny"], Settings(), 1).objective().network().state_dict(), path
    )
    return path


@pytest.fixture
def config(original):
    settings = Settings(frozen_norm=True, emphasis=0.1, original=str(original), brake=2.0, half_way=0.5)
    return TrainConfig(
        "tiny", "siamese", NETWORKS["tiny"], settings, steps=10, batch=4, clip=5.0, start=str(original)
    )


@pytest.fixture
def run(data):
    def start(folder, config, **options):
        torch.manual_seed(config.seed)
        model, source = prepare(replace(config, synthetic=1.0), data)
        train(
            config,
            model,
            lambda first: loader(Feed(source, config.batch, config.seed, first), 0),
            folder,
            **options,
        )

    return start


@pytest.fixture
def data(data, draw_sequence, tmp_path):
    """Scenes and three walks of a square."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("images", "masks"):
        (folder / name).symlink_to(data / name)
    for number in range(3):
        draw_sequence(folder / "drones" / "train" / f"walk_{number}", number)
    return folder


def rows(folder):
    with (folder / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_ten_steps_stop_and_resume_bit_for_bit(run, config, original, tmp_path, monkeypatch):
    monkeypatch.setattr("jntrt.train.run.training.LOG_EVERY", 1)
    run(tmp_path / "straight", config)
    run(tmp_path / "stopped", config, stop_at=4)
    run(tmp_path / "stopped", config)
    straight, resumed = (
        load_file(tmp_path / name / "step-10.safetensors") for name in ("straight", "stopped")
    )
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    logged = rows(tmp_path / "straight")
    assert logged == rows(tmp_path / "stopped")
    assert any(float(row["brake"]) > 0 for row in logged)
    assert all(float(row["contrastive"]) > 0 for row in logged)

    before, trained = (
        load_file(original),
        {
            name.removeprefix("average."): value
            for name, value in straight.items()
            if name.startswith("average.")
        },
    )
    _, model, step = averaged_model(tmp_path / "straight")
    assert step == 10
    name = "ban_head.cls_logits.0.weight"
    assert not torch.equal(before[name], trained[name])
    torch.testing.assert_close(model.state_dict()[name], (before[name] + trained[name]) / 2)
    assert torch.equal(
        before["backbone.features.0.1.running_mean"], trained["backbone.features.0.1.running_mean"]
    )

    paths = finish_run(tmp_path / "straight", tmp_path / "out", "tuned", None, "Apache-2.0")
    written = load_file(paths[0])
    assert written.keys() == {name for name in before if not name.endswith("num_batches_tracked")}
    np.testing.assert_allclose(written[name].float(), model.state_dict()[name], atol=1e-3)


def test_the_packaged_pair_differs_in_the_emphasis_alone():
    with_it, without = load_config("nanotrack-v3-hne"), load_config("nanotrack-v3-tuned")
    assert with_it.recipe == NETWORKS["nanotrack3"]
    assert with_it.settings.emphasis == 0.1
    silent = replace(with_it.settings, emphasis=0.0)
    assert replace(with_it, name=without.name, settings=silent) == without


def test_neighbouring_recordings_are_held_out_together(draw_sequence, tmp_path):
    for number in range(12):
        draw_sequence(tmp_path / f"walk_{number:02d}", number, frames=2)
    clips = load_clips(tmp_path)
    kept = [clip.name for clip in trained_on(clips, 2)]
    assert kept == [f"walk_{number:02d}" for number in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11)]
    assert trained_on(clips, 0) == clips
