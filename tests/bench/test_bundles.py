"""Bundles of one name in a run."""

import shutil
from pathlib import Path

import pytest

from jntrt.bench.bundles import open_bundles
from jntrt.bench.sequences.data_option import parse_data
from jntrt.runtime.bundle import default_bundle
from jntrt.runtime.errors import UserError


def test_equal_names_give_way_to_the_folders(tmp_path: Path) -> None:
    own = default_bundle().path
    for name in ("before", "after"):
        shutil.copytree(own, tmp_path / name)
    copies = [tmp_path / "before", tmp_path / "after"]
    assert [bundle.name for bundle in open_bundles(copies)] == ["before", "after"]
    assert [bundle.name for bundle in open_bundles(copies[:1])] == [default_bundle().name]


def test_data_is_a_list_in_all_three_ways(tmp_path: Path) -> None:
    for name in ("a", "b", "c,d"):
        (tmp_path / name).mkdir()
    a, b, odd = (tmp_path / name for name in ("a", "b", "c,d"))
    assert parse_data([f"{a},{b}"]) == parse_data([str(a), str(b)]) == [a, b]
    assert parse_data([str(odd)]) == [odd]
    with pytest.raises(UserError, match="names nothing"):
        parse_data([","])


def test_a_bundle_among_the_data_is_named() -> None:
    with pytest.raises(UserError, match="bundles stand before --gate-data"):
        parse_data([str(default_bundle().path)], "--gate-data")
