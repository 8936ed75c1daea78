"""The measures against the GOT-10k toolkit's own code, and against numbers one can see by eye."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jntrt.bench.sequences.metrics import (
    auroc,
    center_error,
    clip_to_image,
    measure_clip,
    normalised_error,
    overlap,
    paired_difference,
    summarize,
)


def random_boxes(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.hstack([rng.uniform(-20, 90, (count, 2)), rng.uniform(1, 60, (count, 2))])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_overlap_and_centre_error_equal_the_toolkit(seed: int) -> None:
    from got10k.utils.metrics import center_error as toolkit_error
    from got10k.utils.metrics import rect_iou

    boxes, truth = random_boxes(seed, 40), random_boxes(seed + 1, 40)
    np.testing.assert_array_equal(overlap(boxes, truth), rect_iou(boxes.copy(), truth.copy()))
    np.testing.assert_allclose(center_error(boxes, truth), toolkit_error(boxes, truth), atol=1e-12)
    bounded = overlap(clip_to_image(boxes, 100, 80), clip_to_image(truth, 100, 80))
    np.testing.assert_array_equal(bounded, rect_iou(boxes.copy(), truth.copy(), bound=(100, 80)))


def test_a_clip_seen_by_eye() -> None:
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10.0]])
    boxes = np.array([[5, 5, 1, 1], [0, 0, 10, 10], [0, 5, 10, 10], [50, 0, 10, 10.0]])
    visible = np.array([True, True, True, True])
    clip = measure_clip("a", boxes, truth, visible, (100, 100))
    np.testing.assert_allclose(clip.overlaps, [1, 1 / 3, 0])  # frame 0 is not in it
    np.testing.assert_allclose(clip.success[[0, 10, 20]], [3 / 4, 1 / 2, 0])  # the given box counts as found
    assert clip.precision == 3 / 4
    assert clip.normalised_precision == 1 / 2
    np.testing.assert_allclose(normalised_error(boxes[2:], truth[2:]), [0.5, 5])
    hidden = measure_clip("a", boxes, truth, np.array([True, True, True, False]), (100, 100))
    np.testing.assert_allclose(hidden.overlaps, [1, 1 / 3])


def test_pooled_frames_and_mean_over_clips_are_told_apart() -> None:
    truth = np.tile([10.0, 10, 20, 20], (101, 1))
    far = truth + np.array([60, 0, 0, 0])
    everything = np.ones(101, dtype=bool)
    long = measure_clip("long", truth, truth, everything, (200, 200))
    short = measure_clip("short", far[:11], truth[:11], everything[:11], (200, 200))
    measures = summarize([long, short])
    assert measures.ao_frames == pytest.approx(100 / 110)
    assert measures.ao_clips == pytest.approx(0.5)
    assert measures.sr75_clips == pytest.approx(0.5)
    assert measures.frames == 110
    assert measures.presence_auroc is None


def test_auroc() -> None:
    present = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.8, 0.2, 0.1]), present) == 1
    assert auroc(np.array([0.1, 0.2, 0.8, 0.9]), present) == 0
    assert auroc(np.array([0.5, 0.5, 0.5, 0.5]), present) == 0.5
    assert auroc(np.array([0.9, 0.3, 0.5, 0.1]), present) == 0.75
    assert auroc(np.array([0.9, 0.3]), np.array([True, True])) is None
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(0, 10, 200) / 10, rng.random(200) < 0.4
    pairs = scores[labels][:, None] - scores[~labels][None]
    assert auroc(scores, labels) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_presence_is_pooled_over_clips_with_annotated_absence() -> None:
    truth = np.tile([10.0, 10, 20, 20], (3, 1))
    truth[2] = np.nan
    absent = np.isnan(truth).any(axis=1)
    clip = measure_clip("a", np.nan_to_num(truth), truth, ~absent, (64, 64), np.array([1, 0.7, 0.2]), absent)
    assert summarize([clip]).presence_auroc == 1
    assert summarize([clip]).ao_clips == pytest.approx(1)


def test_paired_difference() -> None:
    ours, theirs = np.array([0.6, 0.7, 0.8, 0.9]), np.array([0.5, 0.6, 0.7, 0.8])
    np.testing.assert_allclose(paired_difference(ours, theirs), [0.1, 0.1, 0.1])
    noisy = np.random.default_rng(0).normal(0.02, 0.1, 200)
    mean, low, high = paired_difference(noisy, np.zeros(200))
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * noisy.std() / np.sqrt(200), rel=0.1)
