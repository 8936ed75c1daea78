"""Scenes and pairs: the box is where the target is drawn, crops are the runtime's, draws repeat."""

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from jntrt.bench.sequences.clips import load_clips
from jntrt.export.families.ostrack.objective import jitter
from jntrt.runtime.bundle.conventions import CropSpec
from jntrt.runtime.crop import crop
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import crop_rectangle
from jntrt.train.data.assets import Assets, blob, random_sprite, recoloured
from jntrt.train.data.pairs import augmented, batches, stack
from jntrt.train.data.scene import Pose, Sprite, View
from jntrt.train.data.synthetic import FRAME, random_pair, random_scene, random_video
from jntrt.train.data.videos import VideoPairs

from ..conftest import pair_source


def by_box(config):
    """The same with the template tokens under the target for a ranking, which the network then takes."""
    recipe = dataclasses.replace(config.recipe, template_tokens="box")
    return dataclasses.replace(config, recipe=recipe)


@pytest.fixture
def assets(data):
    return Assets.load(data / "images", data / "masks", held_out=False)


def plain_view(layers, size=(200, 160)):
    photo = np.full((160, 200, 3), 10, np.uint8)
    return View(photo, np.array([[1.0, 0, 0], [0, 1.0, 0]]), layers, *size)


def red_rectangle(width=30, height=20):
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 255, 255
    return Sprite.from_rgba(rgba)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.9])
def test_the_box_encloses_what_is_drawn(angle):
    sprite = red_rectangle()
    pose = Pose(90.0, 70.0, 40.0, angle, 0.2, True)
    image = plain_view([(sprite, pose)]).render((0, 0), (200, 160), (200, 160), np.random.default_rng(0))
    rows, columns = np.nonzero(image[..., 0] > 130)
    x, y, w, h = pose.box(sprite)
    drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert drawn == pytest.approx((x, y, x + w, y + h), abs=1.5)


def test_a_rendered_crop_equals_the_crop_of_the_rendered_frame():
    pose = Pose(60.0, 50.0, 30.0)
    view = plain_view([(red_rectangle(), pose)])
    rng = np.random.default_rng(0)
    frame = view.render((0, 0), (200, 160), (200, 160), rng)
    rectangle = crop_rectangle(pose.box(red_rectangle()), CropSpec(96, 4.0))
    expected = crop(frame, rectangle, 96).astype(int)
    got = view.render((rectangle.x, rectangle.y), (rectangle.side,) * 2, (96, 96), rng).astype(int)
    assert np.abs(got - expected).mean() < 3  # bilinear twice against once, at the sprite's edges


def test_outside_the_frame_is_black():
    image = plain_view([]).render((-50, -40), (100, 80), (50, 40), np.random.default_rng(0))
    assert not image[:20].any()
    assert not image[:, :25].any()
    assert image[20:, 25:].all()


def test_sprites_have_an_outline_and_distractors_keep_it(assets):
    rng = np.random.default_rng(1)
    for _ in range(20):
        sprite = random_sprite(assets, assets.photos[0], rng)
        assert sprite.size > 2
        assert (sprite.image[..., :3] <= sprite.image[..., 3:]).all()
        other = recoloured(sprite, rng)
        assert other.size == sprite.size
    assert 0.1 < (blob(rng) > 127).mean() < 0.95
    with pytest.raises(ValueError, match="opaque"):
        Sprite.from_rgba(np.zeros((9, 9, 4), np.uint8))


def test_training_and_validation_share_nothing(data):
    parts = [Assets.load(data / "images", data / "masks", held_out=flag) for flag in (False, True)]
    assert [len(p.photos) for p in parts] == [6, 1]
    assert not any((photo == parts[1].photos[0]).all() for photo in parts[0].photos)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="masks/sky: too few"):
        Assets.load(tmp_path / "images", tmp_path / "masks", held_out=False)


def test_an_empty_mask_and_a_tiny_photograph_are_named(data, tmp_path):
    data = Path(shutil.copytree(data, tmp_path / "data"))
    cv2.imwrite(str(data / "images" / "photo_1.jpg"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match=r"photo_1\.jpg: a photograph has sides"):
        Assets.load(data / "images", data / "masks", held_out=False)
    cv2.imwrite(str(data / "masks" / "shapes" / "shape_2.png"), np.zeros((40, 48), np.uint8))
    with pytest.raises(UserError, match=r"shape_2\.png: fewer than 12 opaque"):
        Assets.load(data / "images", data / "masks", held_out=False)


def test_absent_targets_have_no_box(assets):
    rng = np.random.default_rng(2)
    for _ in range(5):
        first, second = random_pair(assets, rng, absent=True)
        assert first.box is not None
        assert second.box is None
    shots = random_video(assets, np.random.default_rng(3), 40)
    for shot in shots:
        if shot.box is not None:
            x, y, w, h = shot.box
            assert min(x, y, w, h) >= 0
            assert x + w <= FRAME[0] + 1e-9
            assert y + h <= FRAME[1] + 1e-9


def test_an_absent_part_of_the_photograph_leaves_with_it(assets, monkeypatch):
    def bare(assets, rng):
        return dataclasses.replace(random_scene(assets, rng), target=None)

    monkeypatch.setattr("jntrt.train.data.synthetic.random_scene", bare)
    rng = np.random.default_rng(9)
    for _ in range(5):
        first, second = random_pair(assets, rng, absent=True)
        assert second.view.photo is not first.view.photo


def test_a_lost_target_is_looked_for_in_the_whole_frame(tmp_path, tiny):
    # Wider than a rendered scene's frame: the target is at the far right, and so is the search crop.
    folder = tmp_path / "wide"
    folder.mkdir()
    for number in range(4):
        frame = np.full((100, 900, 3), 20, np.uint8)
        frame[:, 700:] = 200
        cv2.imwrite(str(folder / f"{number + 1:08d}.png"), frame)
    (folder / "groundtruth.txt").write_text("800,40,20,20\n" * 4)
    (folder / "absence.label").write_text("0\n0\n1\n1\n")
    source = pair_source(tiny, None, VideoPairs(load_clips(folder), CropSpec(128, 4.0)), positive=0.001)
    rng = np.random.default_rng(10)
    assert all(source.draw(rng).search.max() > 100 for _ in range(10))


def test_positive_share_and_shapes(assets, tiny):
    source = pair_source(tiny, assets, positive=0.7)
    rng = np.random.default_rng(4)
    pairs = [source.draw(rng) for _ in range(200)]
    assert 0.6 < np.mean([pair.present for pair in pairs]) < 0.8
    arrays = stack(pairs[:3])
    assert arrays["template"].shape == (3, 32, 32, 3)
    assert arrays["search"].shape == (3, 64, 64, 3)
    assert arrays["previous_size"].shape == (3, 2)
    assert "template_weights" not in arrays
    assert arrays["target_box"].dtype == np.float32
    for pair in pairs:
        if pair.present:
            assert (pair.box[2:] > 0).all()
            assert (np.abs(pair.box[:2] - 0.5) < 0.5).all()
        else:
            assert not pair.box.any()


def test_batches_depend_on_their_number_alone(assets, tiny):
    source = pair_source(tiny, assets)
    all_of_them = batches(source, 2, seed=7)
    straight = [stack(next(all_of_them)[1]) for _ in range(4)]
    later = batches(source, 2, seed=7, first=1, step=2)
    for number in (1, 3):
        index, pairs = next(later)
        assert index == number
        for name, array in stack(pairs).items():
            np.testing.assert_array_equal(array, straight[number][name])


def test_mirroring_moves_the_box(assets, tiny):
    source = pair_source(by_box(tiny), assets, positive=1.0)
    rng = np.random.default_rng(5)
    pair = source.draw(rng)
    for seed in range(8):
        other = augmented(pair, source.objective, np.random.default_rng(seed))
        mirrored = not np.allclose(other.box, pair.box)
        flat = other.search.astype(float).mean(axis=2)
        reference = pair.search.astype(float).mean(axis=2)
        same, flipped = (np.corrcoef(flat.ravel(), r.ravel())[0, 1] for r in (reference, reference[:, ::-1]))
        assert (flipped > same) == mirrored
        if mirrored:
            assert other.box[0] == pytest.approx(1 - pair.box[0])
        rows, before = (p.side_inputs["template_weights"].reshape(2, 2) for p in (other, pair))
        np.testing.assert_array_equal(rows, before[:, ::-1] if mirrored else before)


def test_jitter_is_ostracks():
    rng = np.random.default_rng(6)
    boxes = np.array([jitter((100.0, 100.0, 40.0, 90.0), 4.0, rng) for _ in range(4000)])
    centres = boxes[:, :2] + boxes[:, 2:] / 2 - (120.0, 145.0)
    assert np.abs(centres).max() <= 1.5 * 60 + 1e-9
    assert np.std(centres[:, 0]) == pytest.approx(3 * 60 / np.sqrt(12), rel=0.05)
    assert np.std(np.log(boxes[:, 2] / 40)) == pytest.approx(0.25, rel=0.05)


def test_videos_give_near_frames_and_labelled_absence(tmp_path, tiny, draw_sequence):
    draw_sequence(tmp_path / "a", 0, gone=(5,))
    draw_sequence(tmp_path / "b", 1)
    videos = VideoPairs(load_clips(tmp_path), CropSpec(128, 4.0))
    rng = np.random.default_rng(7)
    for _ in range(20):
        first, second = videos.draw(rng, absent=False)
        assert first.box is not None
        assert second.box is not None
        x, y, w, h = (int(v) for v in second.box)
        assert second.image[y + h // 2, x + w // 2].max() >= 100
    negatives = [videos.draw(rng, absent=True)[1] for _ in range(30)]
    assert any(still.box is None for still in negatives)  # of the sequence with an absence label
    assert any(still.box is not None for still in negatives)  # another sequence's frame
    source = pair_source(by_box(tiny), None, videos)
    assert stack([source.draw(rng) for _ in range(5)])["template_weights"].any(axis=1).all()


def test_one_sequence_without_absence_has_no_negatives(tmp_path, draw_sequence):
    draw_sequence(tmp_path / "a", 0)
    videos = VideoPairs(load_clips(tmp_path / "a"), CropSpec(128, 4.0))
    with pytest.raises(UserError, match="second sequence"):
        videos.draw(np.random.default_rng(0), absent=True)
