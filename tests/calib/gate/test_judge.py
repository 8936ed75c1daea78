"""The gate's arithmetic: overlaps, kept tokens, thresholds, what is held back."""

import numpy as np
import pytest

from jntrt.calib.crops import CropSet, Sample, Target
from jntrt.calib.gate.judge import (
    CropFigures,
    Graphs,
    SequenceFigures,
    Thresholds,
    centred_overlap,
    compare_crops,
    hold_back,
    judge,
    reference_outputs,
)
from jntrt.runtime.errors import UserError


def crop_set(count=4) -> CropSet:
    image = np.zeros((4, 4, 3), np.uint8)
    target = Target({"template": image}, {})
    return CropSet([target], [Sample("A", i, 0, {"search": image}) for i in range(count)])


def graphs(box, score, kept) -> Graphs:
    """A network that answers the same to every crop."""
    outputs = {
        "box": np.array([box], np.float32),
        "score": np.array([score], np.float32),
        "blocks.3/ce/kept": np.array([kept]),
    }
    memory = {"memory": np.zeros(1)}
    return Graphs(lambda feeds: memory, lambda feeds: outputs, frozenset(memory), ("blocks.3/ce/kept",))


def test_crops_are_compared_box_score_and_kept_tokens():
    crops = crop_set()
    reference = reference_outputs(graphs((0.5, 0.5, 0.2, 0.2), 0.9, [1, 2, 3, 4]), crops)
    steps = []
    figures = compare_crops(
        reference, graphs((0.6, 0.5, 0.2, 0.2), 0.7, [4, 3, 2, 9]), crops, lambda: steps.append(1)
    )
    assert figures.crops == len(steps) == 4
    assert figures.median_iou == pytest.approx(1 / 3, abs=1e-5)
    assert figures.score_mean == figures.score_max == pytest.approx(0.2, abs=1e-5)
    assert figures.kept == {"blocks.3/ce/kept": 0.75}
    assert (
        figures.error > compare_crops(reference, graphs((0.5, 0.5, 0.2, 0.2), 0.9, [1, 2, 3, 4]), crops).error
    )


def test_the_verdict_names_what_failed():
    thresholds = Thresholds(0.97, 0.01)
    good = CropFigures(10, 0.99, 0.9, 0.0, 0.0)
    sequences = SequenceFigures(2, 100, 0.7, 0.705, 0.005, -0.01, 0.02)
    assert judge("x", thresholds, good, sequences).passed
    assert judge("x", thresholds, good, None).passed
    bad = judge("x", thresholds, CropFigures(10, 0.5, 0.1, 0, 0), sequences)
    assert bad.failures == ("median IoU 0.5000 is below 0.97",)
    worse = SequenceFigures(2, 100, 0.7, 0.6, -0.1, None, None)
    verdict = judge("x", thresholds, good, worse)
    assert verdict.failures == ("AO moves by -0.1000, more than 0.01",)
    better = SequenceFigures(2, 100, 0.7, 0.8, 0.1, 0.05, 0.15)
    assert judge("x", thresholds, good, better).failures == ("AO moves by +0.1000, more than 0.01",)
    unsure = judge("x", thresholds, good, SequenceFigures(2, 100, 0.7, 0.72, 0.02, -0.01, 0.05))
    assert "more --gate-data" in unsure.failures[0]
    assert judge("x", thresholds, good, SequenceFigures(2, 100, 0.7, 0.708, 0.008, 0.001, 0.02)).passed
    assert verdict.to_dict()["passed"] is False
    assert not judge("x", thresholds, CropFigures(1, float("nan"), 0, 0, 0), None).passed


def test_ranges_of_other_data_fail_whatever_the_boxes_are():
    figures = CropFigures(10, 1.0, 1.0, 0.0, 0.0)
    verdict = judge("x", Thresholds(0.97, 0.01), figures, None, {"a": 0.02, "b": 0.001, "c": 0.3})
    assert verdict.failures == (
        "30.0% of c lies beyond its range: the ranges come from other data than these",
    )
    assert list(verdict.clipped) == ["c", "a"]


@pytest.mark.parametrize(("iou", "ao"), [(1.2, 0.1), (-0.1, 0.1), (0.9, 2.0)])
def test_thresholds_have_a_range(iou, ao):
    with pytest.raises(UserError, match="--m"):
        Thresholds(iou, ao)


def test_one_in_five_is_held_back():
    calibrate, judged = hold_back(list(range(12)))
    assert sorted(calibrate + judged) == list(range(12))
    assert len(judged) == 3
    assert len(hold_back([1, 2])[1]) == 1
    with pytest.raises(UserError, match="--gate-data"):
        hold_back([1])


def test_overlap_of_what_is_not_finite_is_none():
    box = np.array([[0.5, 0.5, 0.2, 0.2]])
    assert centred_overlap(box, box) == pytest.approx(1)
    assert centred_overlap(box, np.full((1, 4), np.nan)) == 0
    assert centred_overlap(box, box + np.array([[1, 0, 0, 0]])) == 0
