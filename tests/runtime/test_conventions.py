"""The conventions of other families than OSTrack's against their golden files."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_conventions import (
    CENTRE,
    GOLDEN,
    HNE,
    NANOTRACK,
    NANOTRACK_LOOPS,
    box_of,
    frame_of,
    nanotrack_loop,
    write_size_bundle,
)

from jntrt.runtime import Tracker, geometry
from jntrt.runtime.bundle.conventions import CropSpec, StateInput, StateSpec
from jntrt.runtime.crop import border_colour, crop, crop_opencv

PATHS = {"native": crop, "opencv": crop_opencv}
HNE_CROPS = json.loads((GOLDEN / "hne/crops.json").read_text())["cases"]
HNE_UPDATES = json.loads((GOLDEN / "hne/updates.json").read_text())["cases"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("number", NANOTRACK_LOOPS)
def test_nanotrack_crops(number: int, path: str) -> None:
    """Template and every instance: side, corner and each byte, with the mean colour of the first frame."""
    loop = nanotrack_loop(number)
    first = frame_of(loop, 0)
    border = border_colour(first, NANOTRACK)
    assert border == tuple(int(value) for value in reversed(loop["mean_bgr"]))
    start = geometry.start_box(loop["init"], CENTRE)
    template = replace(NANOTRACK, size=127)
    cases = [(first, start, template, loop["crop"])]
    for index, step in enumerate(loop["steps"], start=1):
        cases.append((frame_of(loop, index), box_of(step), NANOTRACK, step["crop"]))
    for frame, box, spec, expected in cases:
        rectangle = geometry.crop_rectangle(box, spec)
        assert (rectangle.x, rectangle.y, rectangle.side) == (
            expected["x1"],
            expected["y1"],
            expected["side"],
        )
        pixels = PATHS[path](frame, rectangle, spec.size, edge=spec.edge, border=border)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("number", NANOTRACK_LOOPS)
def test_nanotrack_states(number: int) -> None:
    """From the recorded centre and size, as the crop's units give them, to the recorded box."""
    loop = nanotrack_loop(number)
    width, height = loop["size"]
    start = geometry.start_box(loop["init"], CENTRE)
    np.testing.assert_allclose(start, box_of(loop["steps"][0]), rtol=0, atol=1e-12)
    for step in loop["steps"]:
        state = box_of(step)
        span = geometry.crop_span(state, NANOTRACK)
        w, h = state[2:]
        pad = (w + h) / 2
        scale = 127 / np.sqrt((w + pad) * (h + pad))
        told = geometry.state_input(StateInput.SIZE, state, NANOTRACK)
        np.testing.assert_allclose(told, [w * scale, h * scale], rtol=1e-6)
        offset = [(step["centre"][i] - step["previous_centre"][i]) / span + 0.5 for i in (0, 1)]
        size = [length / span for length in step["size"]]
        box = geometry.box_to_frame((*offset, *size), state, span, width, height, CENTRE)
        np.testing.assert_allclose(box, step["box"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (
            (-30.0, 5.0, 20.0, 20.0),
            (-10.0, 5.0, 20.0, 20.0),
        ),  # the centre stops, the size stays
        ((95.0, 70.0, 20.0, 40.0), (90.0, 60.0, 20.0, 40.0)),
        ((48.0, 38.0, 4.0, 4.0), (45.0, 35.0, 10.0, 10.0)),
        ((-50.0, -60.0, 200.0, 200.0), (0.0, 0.0, 100.0, 80.0)),
    ],
)
def test_the_clip_of_the_centre(box: geometry.Box, expected: geometry.Box) -> None:
    assert geometry.clip_box(box, 100, 80, CENTRE) == expected


def hne_frame(width: int, height: int) -> np.ndarray:
    """The formula of crops.json: H×W×3 uint8 RGB."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((3 * x + 5 * y + 71 * c + ((x * y) >> 4)) & 255).astype(np.uint8)


@pytest.mark.parametrize("number", range(len(HNE_CROPS)))
def test_hne_crops(number: int) -> None:
    case = HNE_CROPS[number]
    for name, spec in (("exemplar", replace(HNE, size=127)), ("instance", HNE)):
        expected = case[name]
        assert geometry.exact_side(case["box"], spec) == pytest.approx(expected["side"], abs=1e-12)
        rectangle = geometry.crop_rectangle(case["box"], spec)
        assert (rectangle.x, rectangle.y, rectangle.side) == (expected["x1"], expected["y1"], expected["c"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", [case for case in HNE_CROPS if "mean_colour" in case])
def test_hne_pixels(case: dict[str, Any], path: str) -> None:
    frame = hne_frame(*case["frame"])
    assert border_colour(frame, HNE) == tuple(case["mean_colour"])
    cut: Callable[..., np.ndarray] = PATHS[path]
    for name, spec in (("exemplar", replace(HNE, size=127)), ("instance", HNE)):
        rectangle = geometry.crop_rectangle(case["box"], spec)
        pixels = cut(frame, rectangle, spec.size, edge=spec.edge, border=border_colour(frame, spec))
        for row, column, colour in case[f"{name}_samples"]:
            assert pixels[row, column].tolist() == colour
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == case[f"{name}_sha256"]


def test_hne_updates() -> None:
    """Previous size in the instance, and the clip of the new box."""
    for case in HNE_UPDATES:
        told = geometry.state_input(StateInput.SIZE, case["state"], HNE)
        np.testing.assert_allclose(told, case["previous_in_instance"], rtol=1e-6)
        clipped = geometry.clip_box(case["new_box_unclipped"], *case["frame"], StateSpec())
        np.testing.assert_allclose(clipped, case["new_box"], rtol=1e-12, atol=1e-12)
        state, box, span = case["state"], case["new_box_unclipped"], 255 / case["scale"]
        units = [(box[i] + box[i + 2] / 2 - state[i] - state[i + 2] / 2) / span + 0.5 for i in (0, 1)] + [
            box[2] / span,
            box[3] / span,
        ]
        mapped = geometry.map_box(units, state, geometry.crop_span(state, HNE))
        np.testing.assert_allclose(mapped, box, rtol=0, atol=1e-9)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_tracker_with_these_conventions(tmp_path: Path, batch: int) -> None:
    """The whole loop against the same steps written out: shift, mean colour, state input, clip."""
    loop = nanotrack_loop(6)  # over the border
    bundle = write_size_bundle(tmp_path / "size", batch)
    assert (bundle.search, bundle.state) == (NANOTRACK, CENTRE)
    boxes = [tuple(loop["init"]), (30.0, 40.0, 50.0, 20.0)][:batch]
    first = frame_of(loop, 0)
    states = [geometry.start_box(box, CENTRE) for box in boxes]
    border = border_colour(first, NANOTRACK)

    def mean(frame: np.ndarray, box: geometry.Box, spec: CropSpec) -> np.ndarray:
        rectangle = geometry.crop_rectangle(box, spec)
        pixels = crop_opencv(frame, rectangle, spec.size, edge=spec.edge, border=border)
        return pixels.astype(np.float32).mean(axis=(0, 1))

    memory = [mean(first, state, replace(NANOTRACK, size=127)) for state in states]
    with Tracker.from_bundle(bundle, backend="onnxruntime", threads=1) as tracker:
        tracker.init(first, boxes if batch > 1 else boxes[0])
        np.testing.assert_array_equal(np.reshape(tracker.state, (-1, 4)), states)
        for number in range(1, 6):
            frame = frame_of(loop, number)
            result = tracker.update(frame)
            for index, state in enumerate(states):
                centre = (mean(frame, state, NANOTRACK) - memory[index]) * 0.002 + 0.5
                size = geometry.state_input(StateInput.SIZE, state, NANOTRACK) * (1.02 / 255)
                span = geometry.crop_span(state, NANOTRACK)
                given = (*centre[:2].tolist(), *size.tolist())
                states[index] = geometry.box_to_frame(given, state, span, 336, 252, CENTRE)
            np.testing.assert_allclose(np.reshape(result.box, (-1, 4)), states, rtol=0, atol=1e-3)
        grown = states[0][2] / loop["init"][2]
        assert grown == pytest.approx(1.02**5, rel=1e-4)
