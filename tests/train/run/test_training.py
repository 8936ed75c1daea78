"""The loop: it learns, stops and goes on as if it had not stopped, in one process and in two."""

import csv
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.training.initialise import initialise, load_encoder, positions
from jntrt.runtime.errors import UserError
from jntrt.train.data.assets import Assets
from jntrt.train.data.loader import Feed, loader
from jntrt.train.run import state
from jntrt.train.run.plot import plot_log
from jntrt.train.run.state import load_average
from jntrt.train.run.training import rate, train

from ..conftest import pair_source


@pytest.fixture
def run(data, tiny):
    assets = Assets.load(data / "images", data / "masks", held_out=False)
    source = pair_source(tiny, assets, positive=0.7)

    def start(folder, config=tiny, **options):
        torch.manual_seed(0)
        model = config.objective().network()
        initialise(model, assets.photos, config.seed)
        return train(
            config,
            model,
            lambda first: loader(Feed(source, config.batch, config.seed, first), 0),
            folder,
            **options,
        )

    return start


def losses(folder):
    with (folder / "log.csv").open() as file:
        return [(int(row["step"]), row["loss"]) for row in csv.DictReader(file)]


def test_stop_and_resume_is_the_same_run(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("jntrt.train.run.training.LOG_EVERY", 1)
    # Drop-path draws random numbers in the network too.
    config = replace(tiny, settings=replace(tiny.settings, drop_path=0.2))
    straight = run(tmp_path / "straight", config)
    run(tmp_path / "stopped", config, stop_at=2)
    run(tmp_path / "stopped", config, stop_at=5)
    resumed = run(tmp_path / "stopped", config)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")
    assert [step for step, _ in losses(tmp_path / "straight")] == [1, 2, 3, 4, 5, 6]
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)
    _, stored = load_average(tmp_path / "stopped")
    assert all(torch.equal(stored[name], value) for name, value in straight.items())


def test_a_killed_run_logs_each_step_once(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("jntrt.train.run.training.LOG_EVERY", 3)
    config = replace(tiny, lr=1e-9)  # the same loss at any step, but for the batch

    def killed(step, row):
        raise KeyboardInterrupt

    run(tmp_path, config, stop_at=2)  # the state is of step 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, report=killed)  # step 3 is logged, and no state saved
    with (tmp_path / "log.csv").open("a") as log:
        log.write("6,2.1")  # and a line broken off
    run(tmp_path, config)
    rows = losses(tmp_path)
    assert [step for step, _ in rows] == [2, 3, 6]
    # The row of step 3 is the mean of one step: as large as the others.
    assert float(rows[1][1]) == pytest.approx(float(rows[2][1]), rel=0.3)


def test_numbers_that_are_not_finite_end_the_run(run, tiny, tmp_path):
    run(tmp_path, stop_at=1)
    with pytest.raises(UserError, match="not finite; lower lr"):
        run(tmp_path, replace(tiny, steps=20, lr=1e30), save_seconds=0)
    assert all(value.isfinite().all() for value in load_average(tmp_path)[1].values())


def test_a_state_that_is_replaced_while_it_is_read(run, tmp_path, monkeypatch):
    run(tmp_path, stop_at=1)
    old = tmp_path / "step-1.safetensors"
    reader = state.load_file

    def late(path):
        if path == old and old.exists():
            monkeypatch.setattr("jntrt.train.run.state.load_file", reader)
            run(tmp_path, stop_at=2)
        return reader(path)

    monkeypatch.setattr("jntrt.train.run.state.load_file", late)
    assert load_average(tmp_path)[0]["step"] == 2
    (tmp_path / "step-2.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_average(tmp_path)


def test_a_fixed_batch_is_learnt(run, tiny, tmp_path, data):
    assets = Assets.load(data / "images", data / "masks", held_out=False)
    batch = next(loader(Feed(pair_source(tiny, assets, positive=1.0), 4, 0), 0))

    def same(first):
        while True:
            yield batch

    torch.manual_seed(0)
    model = OSTrack(tiny.recipe)
    initialise(model, assets.photos, 0)
    config = replace(tiny, steps=60, lr=2e-3, settings=replace(tiny.settings, ce_start=1000))
    train(config, model, same, tmp_path)
    values = [float(v) for _, v in losses(tmp_path)]
    assert values[-1] < 0.75 * values[0]


@pytest.mark.parametrize("head", ["center", "corner"])
def test_the_other_heads_train(head, tiny, tmp_path, data):
    recipe = replace(tiny.recipe, head=head, bins=0, quality_dim=0)
    config = replace(tiny, recipe=recipe, steps=2, start="plain")
    assets = Assets.load(data / "images", data / "masks", held_out=False)
    source = pair_source(config, assets)
    train(config, OSTrack(recipe), lambda first: loader(Feed(source, 4, 0, first), 0), tmp_path)
    assert np.isfinite(float(losses(tmp_path)[-1][1]))


def test_the_teachers_weight_falls_to_zero(tiny, tmp_path, data):
    assets = Assets.load(data / "images", data / "masks", held_out=False)
    source = pair_source(tiny, assets)

    def feed(first):
        for batch in loader(Feed(source, 4, 0, first), 0):
            sides = (tiny.recipe.template_count, tiny.recipe.search_count)
            for name, count in zip(("template", "search"), sides, strict=True):
                batch[f"teacher_{name}"] = torch.ones(4, count, 5)
            yield batch

    model = OSTrack(tiny.recipe)
    train(replace(tiny, steps=3, teacher=1.0, teacher_until=2), model, feed, tmp_path, teacher_channels=5)
    with (tmp_path / "log.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["teacher"]) > 0


# Run in a process of its own: the workers are forks, and pytest's process has threads of the engines' tests.
COMPARISON = """
import sys
from pathlib import Path

import cv2
import torch
from jntrt.runtime.errors import UserError
from jntrt.train.run.config import load_config
from jntrt.train.data.loader import Feed, loader
from jntrt.train.run.commands import prepare

cv2.setNumThreads(0)  # as train_run does
source = prepare(load_config(sys.argv[1]), Path(sys.argv[2]))[1]
plain, parallel = loader(Feed(source, 2, 3), 0), loader(Feed(source, 2, 3), 2)
for _ in range(3):
    a, b = next(plain), next(parallel)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)

def refuse(rng):
    raise UserError("one line")

source.draw = refuse
try:
    next(loader(Feed(source, 2, 3), 1))
except UserError as error:
    assert str(error) == "one line"
else:
    raise AssertionError("the worker's error is lost")
"""


def test_workers_change_nothing(tiny_file, data):
    command = [sys.executable, "-c", COMPARISON, str(tiny_file), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_rates(tiny):
    step = replace(tiny, steps=100, warmup=10, decay="step", decay_from=0.8)
    assert [rate(step, s) for s in (0, 9, 10, 79, 80, 99)] == [0.1, 1.0, 1.0, 1.0, 0.1, 0.1]
    linear = replace(step, decay="linear")
    assert [rate(linear, s) for s in (79, 80, 90, 100)] == [1.0, 1.0, 0.5, 0.01]


def test_states_that_do_not_fit_are_refused(run, tiny, tmp_path):
    run(tmp_path, stop_at=1)
    wider = replace(tiny, recipe=replace(tiny.recipe, mlp_dim=96))
    with pytest.raises(UserError, match="another network"):
        run(tmp_path, wider)
    with pytest.raises(UserError, match="begun without a teacher; leave it out"):
        run(tmp_path, teacher_channels=5)
    (tmp_path / "state.json").write_text("[]")
    with pytest.raises(UserError, match="not a training state"):
        run(tmp_path)


def test_an_encoder_from_a_file(tiny, tmp_path):
    source, model = OSTrack(tiny.recipe), OSTrack(tiny.recipe)
    weights = {k: v.contiguous() for k, v in source.backbone.state_dict().items() if "pos_embed" not in k}
    save_file(weights, tmp_path / "vit.safetensors")
    load_encoder(model, tmp_path / "vit.safetensors")
    assert torch.equal(model.backbone.blocks[1].mlp.fc1.weight, source.backbone.blocks[1].mlp.fc1.weight)
    assert torch.equal(model.backbone.pos_embed_x, positions(4, 32))
    weights.pop("norm.weight")
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"norm\.weight"):
        load_encoder(model, tmp_path / "part.safetensors")


def test_the_log_is_plotted(run, tmp_path):
    run(tmp_path, stop_at=2)
    plot_log(tmp_path / "log.csv", tmp_path / "log.png")
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_two_processes_share_a_run_and_resume_it(data, tiny_file, tmp_path):
    # Rates that do not depend on the number of steps, so that a shorter run is the beginning of a longer one.
    config = yaml.safe_load(tiny_file.read_text()) | {"decay_from": 1.0, "drop_path": 0.2}
    tiny_file.write_text(yaml.safe_dump(config))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for folder, steps in (("straight", 6), ("resumed", 3), ("resumed", 6)):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
        command += ["jntrt.train.cli", "--config", str(tiny_file), "--data", str(data), "--steps", str(steps)]
        command += ["--out", str(tmp_path / folder), "--workers", "0", "--threads", "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    straight, resumed = (load_file(tmp_path / f / "weights.safetensors") for f in ("straight", "resumed"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert losses(tmp_path / "resumed")[-1][0] == 6
