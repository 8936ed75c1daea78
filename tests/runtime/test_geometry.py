"""Rectangles, boxes and masks against the golden files of the released tracker, and their corner cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from golden_conventions import FAMILIES, OSTRACK
from hypothesis import given
from hypothesis import strategies as st

from jntrt.runtime import geometry
from jntrt.runtime.bundle.conventions import CropSpec, StateSpec
from jntrt.runtime.errors import UserError

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CROPS = json.loads((GOLDEN / "crops/crops.json").read_text())["cases"]
BOXES = json.loads((GOLDEN / "boxes.json").read_text())["cases"]
MASKS = json.loads((GOLDEN / "ce_masks.json").read_text())


def _spec(case: dict) -> CropSpec:
    return CropSpec(case["size"], case["factor"])


def _box(values: list[float | None]) -> list[float]:
    return [math.nan if v is None else v for v in values]


@pytest.mark.parametrize("case", [c for c in CROPS if c["result"] == "ok"], ids=lambda c: c["id"])
def test_rectangles(case: dict) -> None:
    rectangle = geometry.crop_rectangle(case["box"], _spec(case))
    assert (rectangle.x, rectangle.y, rectangle.side) == (case["x1"], case["y1"], case["crop_sz"])
    assert case["size"] / rectangle.side == case["resize_factor"]


@pytest.mark.parametrize("case", [c for c in CROPS if c["result"] == "error"], ids=lambda c: c["id"])
def test_impossible_boxes_are_refused(case: dict) -> None:
    with pytest.raises(UserError, match=r"^the box .*(not finite|empty)"):
        geometry.crop_rectangle(_box(case["box"]), _spec(case))


@pytest.mark.parametrize("case", [c for c in CROPS if "quirk" in c], ids=lambda c: c["id"])
def test_a_crop_outside_the_frame_is_known_as_such(case: dict) -> None:
    width, height = (int(v) for v in case["frame"].split("_")[1].split("x"))
    assert not geometry.crop_rectangle(case["box"], _spec(case)).touches(width, height)


def test_a_box_past_any_camera_is_refused() -> None:
    with pytest.raises(UserError, match="too large"):
        geometry.crop_rectangle((0, 0, 1e300, 1e300), OSTRACK)


@pytest.mark.parametrize("case", BOXES)
def test_boxes_to_the_frame(case: dict) -> None:
    side = case["search_size"] / case["resize_factor"]
    from_pixels = [v / side for v in case["pred_box"]]
    mapped = geometry.map_box(from_pixels, case["state"], side)
    np.testing.assert_allclose(mapped, case["mapped"], rtol=0, atol=1e-9)
    new_state = geometry.box_to_frame(from_pixels, case["state"], side, case["W"], case["H"], StateSpec())
    np.testing.assert_allclose(new_state, case["new_state"], rtol=0, atol=1e-9)
    np.testing.assert_allclose([v * side for v in case["pred_norm"]], case["pred_box"], rtol=1e-6)


@pytest.mark.parametrize("case", MASKS["cases"])
def test_box_masks(case: dict) -> None:
    tokens = geometry.box_tokens(case["init_box"], CropSpec(case["template_size"], 2.0))
    weights = geometry.template_weights(case["init_box"], CropSpec(case["template_size"], 2.0))
    centre = (case["feat"] - 1) // 2 * (case["feat"] + 1)
    assert np.flatnonzero(tokens).tolist() == ([centre] if case["empty"] else case["tokens"])
    assert weights.dtype == np.float32
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert (weights > 0).tolist() == tokens.tolist()


def test_target_box_formats() -> None:
    loop = json.loads((GOLDEN / "jn/loop/loop.json").read_text())
    expected = loop["template"]["tit_box"]
    box = loop["init_box"]
    assert geometry.target_box_in_crop(box, CropSpec(144, 2.0), "cxcywh") == pytest.approx(
        expected, abs=1e-15
    )
    from_corner = geometry.target_box_in_crop(box, CropSpec(144, 2.0), "cxcywh01")
    assert from_corner == pytest.approx((expected[0] + 0.5, expected[1] + 0.5, *expected[2:]), abs=1e-15)
    wide = geometry.target_box_in_crop((0, 0, 500, 10), CropSpec(144, 2.0), "xyxy01")
    assert wide[0] == 0
    assert wide[2] == 1
    assert wide[1] < wide[3]
    with pytest.raises(UserError, match=r"use cxcywh, cxcywh01, xyxy01 or xyxy$"):
        geometry.target_box_in_crop(box, CropSpec(144, 2.0), "xywh")


@pytest.mark.parametrize("name", ["jn256", "jn_cae", "jn384", "jn_center", "jn_corner"])
def test_target_boxes_of_the_golden_networks(name: str) -> None:
    folder = GOLDEN / "jn" / name
    meta = json.loads((folder / "meta.json").read_text())
    inputs = np.load(folder / meta.get("inputs", "inputs.npz"))
    box_format = "xyxy01" if name == "jn_cae" else "cxcywh"
    size = inputs["template"].shape[-2]
    got = geometry.target_box_in_crop(inputs["template_box"].tolist(), CropSpec(size, 2.0), box_format)
    np.testing.assert_allclose(got, np.load(folder / "outputs.npz")["tit_box"].reshape(-1), rtol=0, atol=1e-7)


coordinate = st.floats(-1e4, 1e4)
length = st.floats(1e-3, 1e4)
unit = st.floats(-10, 10)


@pytest.mark.parametrize(("spec", "rule"), FAMILIES.values(), ids=FAMILIES)
@given(st.tuples(unit, unit, unit, unit), st.tuples(coordinate, coordinate, length, length))
def test_the_next_crop_always_shows_the_frame(
    spec: CropSpec, rule: StateSpec, prediction: tuple, state: tuple
) -> None:
    """Whatever a network says, the clip leaves a state that can be cropped and shows some of the frame."""
    box = geometry.box_to_frame(prediction, state, geometry.crop_span(state, spec), 320, 240, rule)
    assert geometry.crop_rectangle(box, spec).touches(320, 240, spec.edge)
    assert box[2] >= 10
    assert box[3] >= 10
