"""What is answered to weights that no family knows, and the list of what is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jntrt.export import families
from jntrt.export.cli import app
from jntrt.export.families import family, folder_names
from jntrt.export.families.nearest import nearest
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError

ROOT = Path(__file__).parents[3]
KINDS = {name: family(name) for name in folder_names()}


def names_of(name, network="tiny"):
    with torch.device("meta"):
        return dict(KINDS[name].plain(KINDS[name].NETWORKS[network]).state_dict())


@pytest.mark.parametrize("name", folder_names())
def test_a_familys_own_names_lack_nothing(name):
    first = nearest(names_of(name), KINDS)[0]
    assert (first.family, first.missing) == (name, ())


def test_what_is_missing_is_named_and_the_nearest_comes_first():
    weights = names_of("litetrack")
    del weights["backbone.pos_embed_x"]
    del weights["box_head.conv5_ctr.bias"]
    found = nearest(weights, KINDS)
    assert [one.family for one in found] == ["litetrack", "ostrack"]  # siamese has no name in common
    assert found[0].missing == ("backbone.pos_embed_x", "box_head.conv5_ctr.bias")
    assert str(found[0]).endswith("(backbone.pos_embed_x, box_head.conv5_ctr.bias)")
    assert "backbone.norm.bias" in found[1].missing


def test_the_refusal_names_them_in_one_line():
    weights = {name: np.zeros(1) for name in names_of("ostrack") if not name.startswith("backbone.norm.")}
    with pytest.raises(UserError) as caught:
        families.recognise(weights)
    told = str(caught.value)
    assert "ostrack lacks 2 of " in told
    assert "(backbone.norm.bias, backbone.norm.weight)" in told
    assert "litetrack lacks " in told
    assert told.endswith("--key-map FILE renames weights")
    assert "\n" not in told


def test_the_list_has_every_family_and_tracker(capsys):
    assert run(app, ["--list"]) == 0
    told = capsys.readouterr().out
    for name in folder_names():
        for one in KINDS[name].SUPPORTED:
            assert f"{one.tracker} (family {name})\n  shown by: {one.shown}\n" in told
    assert "LiteTrack (family litetrack)" in told
    assert run(app, ["--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    trackers = {row["tracker"] for row in rows}
    assert {"OSTrack", "JN", "LiteTrack", "CompressTracker", "DropTrack", "ORTrack", "HNE"} <= trackers
    assert {row["family"] for row in rows} == set(folder_names())


def test_the_document_says_the_same_as_the_list():
    rows = [line.split(" | ") for line in (ROOT / "docs" / "families.md").read_text().splitlines()]
    said = {row[0].removeprefix("| "): row[1:6] for row in rows if len(row) == 7}
    for name in folder_names():
        for one in KINDS[name].SUPPORTED:
            expected = [name, one.shown, one.told, one.code_license, one.speed]
            assert said[one.tracker] == expected
