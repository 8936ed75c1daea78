"""The threshold of a search for lost targets: which is chosen, and where it is kept."""

from dataclasses import replace

import numpy as np
import pytest

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.redetection import Redetected
from jntrt.calib import redetect
from jntrt.calib.redetect import calibrate_redetection, chosen
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.errors import GateError, UserError

GOOD = Redetected(0.8, 50, 0.04, 40, 0.0, 50, 0.6, 20.0, 5.0)


def test_most_found_of_those_with_few_wrong_ones() -> None:
    figures = {
        0.4: replace(GOOD, found=0.9, wrong=0.1),
        0.5: replace(GOOD, found=0.88, false_alarms=0.04),
        0.6: GOOD,
        0.7: replace(GOOD, found=0.7, wrong=0.0),
    }
    assert chosen(figures) == 0.6
    with pytest.raises(GateError, match=r"at best 4%"):
        chosen({0.6: replace(GOOD, false_alarms=0.1)})


def test_the_threshold_is_kept_in_the_copy(tmp_path, monkeypatch) -> None:
    boxes = np.tile((10.0, 10.0, 20.0, 20.0), (4, 1))
    boxes[2] = np.nan
    clip = Clip("clip", tmp_path, boxes, ~np.isnan(boxes[:, 0]))
    monkeypatch.setattr(redetect, "follow_clip", lambda clip, tracker: tracker._search.threshold)
    monkeypatch.setattr(redetect, "redetected", lambda found: replace(GOOD, wrong=0.5 * (found[0] < 0.5)))
    bundle = open_bundle("jn-nano")
    changed, figures = calibrate_redetection(
        bundle, [clip], tmp_path / "copy", "onnxruntime", 1, lambda *told: None
    )
    assert sorted(figures) == [0.44, 0.48, 0.52, 0.56]  # halving: of ten, four are measured
    assert changed.redetect_threshold == max(figures)
    assert changed.manifest["redetect"]["found"] == GOOD.found
    assert not any(key.endswith("_ms") for key in changed.manifest["redetect"])
    assert open_bundle(tmp_path / "copy").redetect_threshold == max(figures)
    assert changed.verify() == [tmp_path / "copy" / file.name for file in bundle.verify()]
    with pytest.raises(UserError, match="annotates an absence"):
        calibrate_redetection(bundle, [replace(clip, boxes=boxes[:2])], None, "auto", 1, lambda *told: None)
