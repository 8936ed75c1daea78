"""A family is one folder and one dict entry: a toy goes from training to a checked bundle and its benches."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from jntrt.bench.latency.plain_network import plain_backends
from jntrt.bench.latency.report import published_figure
from jntrt.export import families
from jntrt.export.cli import app as export_app
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError
from jntrt.train.cli import app as train_app
from safetensors.numpy import load_file, save_file

from ..train.conftest import draw_data, walking_square

CONFIG = {
    "family": "toy",
    "recipe": {"template_size": 32, "search_size": 64},
    "steps": 10,
    "batch": 4,
    "lr": 0.05,
    "shift": 0.5,  # a setting of the toy's own
    "synthetic": 1.0,
}


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(families.FAMILIES, "toy", "toy")


@pytest.fixture
def trained(toy, tmp_path, monkeypatch):
    """A run of ten steps, its folder."""
    monkeypatch.setattr("jntrt.train.run.training.LOG_EVERY", 1)
    data = draw_data(tmp_path / "data")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(CONFIG))
    words = ["--config", str(tmp_path / "toy.yaml"), "--data", str(data), "--out", str(tmp_path / "run")]
    assert run(train_app, [*words, "--steps", "4", "--workers", "0"]) == 0
    assert run(train_app, [*words, "--workers", "0"]) == 0  # goes on
    return tmp_path / "run"


@pytest.fixture
def bundle(trained, tmp_path, capsys):
    """The trained toy through `finish` and `export-jn`, which recognises it by its weights alone."""
    assert run(train_app, ["finish", str(trained), str(tmp_path / "out"), "--name", "toy"]) == 0
    save_file(load_file(tmp_path / "out" / "toy.safetensors"), tmp_path / "alone.safetensors")
    words = [str(tmp_path / "alone.safetensors"), "-o", str(tmp_path / "bundle"), "--batch", "2", "--json"]
    capsys.readouterr()
    assert run(export_app, [*words, "--presence-threshold", "0.4"]) == 0
    rows = json.loads(capsys.readouterr().out)["inferred"]
    assert rows[0] == {"what": "recognised as", "value": "toy", "from": "weights: toy.mix"}
    return Bundle.open(tmp_path / "bundle")


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


def test_the_bundle_is_whole_and_says_whose_it_is(bundle, capsys):
    assert (bundle.family, bundle.batch, bundle.presence_threshold) == ("toy", 2, 0.4)
    assert bundle.recipe == {"template_size": 32, "search_size": 64, "gain": 50.0}
    assert bundle.manifest["state_inputs"] == {"previous_size": "size"}
    assert bundle.takes("track", "previous_size")
    assert bundle.entry("fp32")["check"]["passed"] is True
    assert run(export_app, ["check", str(bundle.path)]) == 0
    assert run(export_app, ["inspect", str(bundle.path)]) == 0
    assert "gain" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["eager", "naive"])
def test_the_benches_plain_form_gives_what_the_graphs_gave(kind, bundle, tmp_path):
    with np.load(bundle.parity()) as file:
        stored = {name: array[:2] for name, array in file.items()}
    template, track = plain_backends(bundle, kind, 1, tmp_path / "alone.safetensors")
    memory = template.run({"template": stored["template"]})
    found = track.run({"search": stored["search"], "previous_size": stored["previous_size"], **memory})
    for name in ("box", "score"):
        np.testing.assert_allclose(found[name], stored[name], atol=1e-5)
    assert published_figure(bundle).model == "toy"


def test_its_flag_is_a_flag_of_the_command_and_of_no_other_family(toy):
    said = families.command_flags().__dataclass_fields__.keys()
    assert {"gain", "ce_layers", "family"} <= said
    assert families.family_flags("toy", {"gain": 3.0}).gain == 3.0
    with pytest.raises(UserError, match="--gain: not for the family ostrack"):
        families.family_flags("ostrack", {"gain": 3.0})


def test_weights_of_no_family_are_one_line(toy, tmp_path, capsys):
    save_file({"stem.weight": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    assert run(export_app, [str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "b")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "toy) knows these weights" in told
    assert "'stem.weight'" in told
    assert not (tmp_path / "b").exists()
