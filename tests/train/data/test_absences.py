"""Scenes whose target goes and comes back, and regions of pictures."""

import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.train.data.assets import Assets
from jntrt.train.data.regions import Regions, read_pictures
from jntrt.train.data.synthetic import FRAME, Absence, random_video
from jntrt.train.data.write_sequences import write_sequences


@pytest.fixture(scope="module")
def assets(data):
    return Assets.load(data / "images", data / "masks", held_out=False)


def test_a_target_goes_and_comes_back_elsewhere(assets):
    for seed in range(4):
        shots = random_video(assets, np.random.default_rng(seed), 30, Absence(10, 20))
        assert [number for number, shot in enumerate(shots) if shot.box is None] == list(range(10, 20))
        assert all(shot.view.layers for shot in shots)  # another of its kind stays
        before, after = (np.array(shots[number].box) for number in (9, 20))
        assert np.hypot(*(after[:2] - before[:2])) > np.sqrt(before[2] * before[3])
    stays = random_video(assets, np.random.default_rng(0), 30, Absence(30, 30))
    assert all(shot.box is not None for shot in stays)


def test_vanishing_scenes_are_long_enough_for_an_absence(data, tmp_path):
    with pytest.raises(UserError, match="at least 255 frames"):
        write_sequences(data, tmp_path / "short", 1, 254, scenes="vanishing")
    write_sequences(data, tmp_path / "stay", 1, 30, scenes="staying")
    assert (tmp_path / "stay" / "list.txt").read_text() == "staying_000\n"
    assert set((tmp_path / "stay" / "staying_000" / "absence.label").read_text().split()) == {"0"}


def test_regions_are_seen_twice_and_marked(data):
    regions = Regions(read_pictures(data / "images"))
    first, second = regions.draw(np.random.default_rng(1))
    assert first.region
    assert second.region
    for shot in (first, second):
        assert shot.box is not None
        image = shot.view.render((0.0, 0.0), FRAME, FRAME, np.random.default_rng(0))
        assert image.std() > 5
    with pytest.raises(UserError, match="no picture"):
        Regions([])
    with pytest.raises(UserError, match="no such folder"):
        read_pictures(data / "nothing")
