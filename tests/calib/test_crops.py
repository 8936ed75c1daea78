"""Calibration crops: even shares, seeds, jitter, and what is refused before anything is measured."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jntrt.bench.sequences.clips import load_clips
from jntrt.calib import crops as crops_of
from jntrt.calib.crops import (
    CENTRE_JITTER,
    CropSet,
    Jitter,
    Sample,
    Wanted,
    check_crops,
    collect_crops,
    share_out,
)
from jntrt.calib.observe import feeds_of, observe
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.crop import BLACK
from jntrt.runtime.errors import UserError

from .tiny_tracker import random_weights, tiny_models, tiny_recipe, write_sequences, write_tiny


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 600), st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_shares_are_even_and_complete(count, frames):
    shares = share_out(count, frames)
    assert sum(shares) == min(count, sum(frames))
    assert all(share <= limit for share, limit in zip(shares, frames, strict=True))
    unsated = [share for share, limit in zip(shares, frames, strict=True) if share < limit]
    assert not unsated or max(unsated) - min(unsated) <= 1


def test_crops_are_the_same_for_the_same_seed_and_jittered(tiny_bundle, sequences):
    data = load_clips(sequences)
    seen = []
    first, again, other = (
        collect_crops(tiny_bundle, data, Wanted(33), seed=seed, threads=1, on_crop=lambda: seen.append(1))
        for seed in (0, 0, 1)
    )
    assert len(first) == 33
    assert len(seen) == 99
    assert len(first.templates) == 3
    assert {sample.inputs["search"].shape for sample in first.samples} == {(128, 128, 3)}
    same = [
        np.array_equal(a.inputs["search"], b.inputs["search"])
        for a, b in zip(first.samples, again.samples, strict=True)
    ]
    changed = [
        np.array_equal(a.inputs["search"], b.inputs["search"])
        for a, b in zip(first.samples, other.samples, strict=True)
    ]
    assert all(same)
    assert sum(changed) < 5


def test_jitter_stays_within_what_a_tracker_is_off_by():
    rng = np.random.default_rng(0)
    box = (100.0, 80.0, 40.0, 90.0)
    for _ in range(200):
        x, y, w, h = Jitter.drawn(rng).of(box)
        assert abs(x + w / 2 - 120) <= CENTRE_JITTER * 60
        assert abs(y + h / 2 - 125) <= CENTRE_JITTER * 60
        assert w / h == pytest.approx(40 / 90)
        assert 0.3 < w / 40 < 3


def test_too_few_crops(tiny_bundle, tmp_path):
    data = load_clips(write_sequences(tmp_path, names=("A",), frames=6))
    with pytest.raises(UserError, match=r"--data: 5 crops, .* too few: add 27 frames or more, .* --crops"):
        collect_crops(tiny_bundle, data, Wanted(500), threads=1)


def hide_target(root, frames):
    """Sequence A under `root` of so many frames shows its target in every fifth one from 5 on."""
    labels = [int(number < 5 or number % 5 > 0) for number in range(frames)]
    (root / "A" / "absence.label").write_text("".join(f"{label}\n" for label in labels))


@pytest.mark.parametrize("count", [3, 18])
def test_frames_that_do_not_show_the_target_cost_no_crop(tiny_bundle, tmp_path, count):
    """Whatever frame is drawn to begin with: 18 frames follow the first that shows the target."""
    hide_target(write_sequences(tmp_path, names=("A",), frames=24), 24)
    for seed in range(5):
        crops = collect_crops(tiny_bundle, load_clips(tmp_path), Wanted(count), seed=seed, threads=1)
        assert len({sample.frame for sample in crops.samples}) == count
        assert min(sample.frame for sample in crops.samples) > 5


def test_frames_before_the_target_is_seen_do_not_count(tiny_bundle, tmp_path):
    hide_target(write_sequences(tmp_path, names=("A",), frames=24), 24)
    message = "18 crops, one for each frame after a target is first seen, .* add 14 frames"
    with pytest.raises(UserError, match=message):
        collect_crops(tiny_bundle, load_clips(tmp_path), Wanted(40), threads=1)


def test_blank_frames(tiny_bundle, tmp_path):
    root = write_sequences(tmp_path, names=("A", "B", "C", "D"), frames=12)
    for image in root.glob("*/*.jpg"):
        cv2.imwrite(str(image), np.full((144, 192, 3), 90, np.uint8))
    with pytest.raises(UserError, match="calibration crops are blank"):
        collect_crops(tiny_bundle, load_clips(root), Wanted(40), threads=1)


def test_constant_crops_can_be_handed_to_the_library_past_the_check():
    crops = CropSet([], [Sample("A", i, 0, {"search": np.full((8, 8, 3), 9, np.uint8)}) for i in range(40)])
    with pytest.raises(UserError, match="40 of 40"):
        check_crops(crops, Wanted(40))


def test_a_checkpoint_that_gives_nan_is_named(tmp_path, sequences):
    recipe = tiny_recipe()
    weights = random_weights(recipe)
    weights["backbone.blocks.1.norm2.weight"][:] = np.inf
    bundle = write_tiny(tmp_path / "broken", recipe, weights)
    good = write_tiny(tmp_path / "good", recipe)
    crops = collect_crops(good, load_clips(sequences), Wanted(4), threads=1)
    models = tiny_models(recipe, weights=weights)
    with pytest.raises(UserError, match="is not finite in fp32"):
        observe(models.template, models.track, [], crops, threads=1)
    with pytest.raises(UserError, match="not finite"):
        collect_crops(bundle, load_clips(sequences), Wanted(33), threads=1)


def test_every_further_input_is_kept_by_its_name(tmp_path, sequences):
    recipe = tiny_recipe(template_tokens="box")
    with_weights = write_tiny(tmp_path / "box", recipe)
    manifest = json.loads((with_weights.path / "bundle.json").read_text())
    manifest["inputs"].append({"graph": "track", "name": "previous_size"})
    manifest["state_inputs"] = {"previous_size": "size"}
    (with_weights.path / "bundle.json").write_text(json.dumps(manifest))
    frames = [frame for frame, _ in zip(load_clips(sequences)[0].frames(), range(2), strict=False)]
    with_size = Bundle.open(with_weights.path)
    target = crops_of._target(with_size, frames[0], [40.0, 50.0, 44.0, 36.0])
    assert {name: value.shape for name, value in target.template.items()} == {
        "template": (64, 64, 3),
        "target_box": (4,),
    }
    assert target.track["template_weights"].sum() == pytest.approx(1)
    inputs = crops_of._track_inputs(with_size, frames[1], (40.0, 50.0, 44.0, 36.0), BLACK)
    side = np.ceil(np.sqrt(44 * 36) * 4)
    assert inputs["previous_size"] == pytest.approx(np.array([44, 36]) * 128 / side)
    crops = CropSet([target], [Sample("A", 1, 0, inputs)])
    (feeds,) = feeds_of(crops, lambda given: {"memory": given["template"]})
    assert {name: value.shape for name, value in feeds.items()} == {
        "search": (1, 128, 128, 3),
        "previous_size": (1, 2),
        "memory": (1, 64, 64, 3),
        "template_weights": (1, 16),
    }
