"""The crop: both paths against the golden hashes, and against each other where no golden file reaches."""

import hashlib
import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jntrt.runtime import crop as crop_module
from jntrt.runtime.bundle.conventions import CropSpec, Edge
from jntrt.runtime.crop import crop, crop_opencv
from jntrt.runtime.geometry import CropRectangle, crop_rectangle

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = [
    case
    for case in json.loads((GOLDEN / "crops/crops.json").read_text())["cases"]
    if case["result"] == "ok" and "quirk" not in case
]


def crop_portable(
    frame: np.ndarray, rectangle: CropRectangle, size: int, *, swap: bool = False
) -> np.ndarray:
    """The native path as a processor without AVX2 runs it."""
    out = np.empty((size, size, 3), np.uint8)
    native = crop_module._native
    assert native is not None
    native.crop(frame, out, rectangle.x, rectangle.y, rectangle.side, swap, 1, (0, 0, 0), portable=True)
    return out


PATHS = {"native": crop, "portable": crop_portable, "opencv": crop_opencv}


@cache
def read_rgb(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_the_native_path_is_there() -> None:
    assert crop_module._native is not None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_golden_crops(case: dict, path: str) -> None:
    frame = read_rgb(GOLDEN / "crops" / f"{case['frame']}.png")
    rectangle = crop_rectangle(case["box"], CropSpec(case["size"], case["factor"]))
    assert digest(PATHS[path](frame, rectangle, case["size"])) == case["sha256"]


@pytest.mark.parametrize("case", CASES[:6], ids=lambda c: c["id"])
def test_swapped_channels(case: dict) -> None:
    frame = read_rgb(GOLDEN / "crops" / f"{case['frame']}.png")
    rectangle = crop_rectangle(case["box"], CropSpec(case["size"], case["factor"]))
    bgr = np.ascontiguousarray(frame[..., ::-1])
    for path in PATHS.values():
        assert digest(path(bgr, rectangle, case["size"], swap=True)) == case["sha256"]


@pytest.mark.parametrize("native", [True, False])
def test_a_crop_into_given_memory(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    if not native:
        monkeypatch.setattr(crop_module, "_native", None)
    places = np.zeros((3, 32, 32, 3), np.uint8)
    for rectangle in (CropRectangle(10, 5, 40), CropRectangle(500, 500, 40)):
        assert crop(frame, rectangle, 32, border=(1, 2, 3), out=places[1]) is not None
        np.testing.assert_array_equal(places[1], crop(frame, rectangle, 32, border=(1, 2, 3)))
    assert not places[[0, 2]].any()


def test_without_the_native_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_module, "_native", None)
    case = CASES[0]
    frame = read_rgb(GOLDEN / "crops" / f"{case['frame']}.png")
    assert (
        digest(crop(frame, crop_rectangle(case["box"], CropSpec(case["size"], case["factor"])), case["size"]))
        == case["sha256"]
    )


@pytest.mark.parametrize("name", ["loops/ostrack256_ce_loop", "jn/loop"])
def test_crops_of_the_golden_loops(name: str) -> None:
    loop = json.loads((GOLDEN / name / "loop.json").read_text())
    records = loop.get("records") or loop["steps"]
    for record in records:
        frame = read_rgb(GOLDEN / name / "frames" / f"{record['frame']:03d}.png")
        state = record.get("state_before") or record["state"]
        rectangle = crop_rectangle(state, CropSpec(256, 4.0))
        assert digest(crop(frame, rectangle, 256)) == record["crop_sha256"]


@settings(max_examples=300, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    x=st.integers(-150, 120),
    y=st.integers(-150, 120),
    side=st.integers(1, 260),
    size=st.integers(1, 140),
    swap=st.booleans(),
    edge=st.sampled_from(Edge),
    border=st.tuples(*[st.integers(0, 255)] * 3),
    layout=st.sampled_from(["plain", "slice", "flipped", "column-major"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_native_equals_opencv(
    width: int,
    height: int,
    x: int,
    y: int,
    side: int,
    size: int,
    swap: bool,
    edge: Edge,
    border: tuple[int, int, int],
    layout: str,
    seed: int,
) -> None:
    """Any frame (from one pixel), any square (over the border, outside), any size and memory layout."""
    noise = np.random.default_rng(seed).integers(0, 256, (height + 2, width + 2, 3), np.uint8)
    frame = {
        "plain": np.ascontiguousarray(noise[1:-1, 1:-1]),
        "slice": noise[1:-1, 1:-1],
        "flipped": noise[::-1, ::-1],
        "column-major": np.asfortranarray(noise),
    }[layout]
    rectangle = CropRectangle(x, y, side)
    np.testing.assert_array_equal(
        crop(frame, rectangle, size, swap=swap, edge=edge, border=border),
        crop_opencv(frame, rectangle, size, swap=swap, edge=edge, border=border),
    )


@pytest.mark.parametrize("side", [64, 128, 256, 512, 255, 257, 1000, 1999])
@pytest.mark.parametrize("size", [127, 128, 144, 192, 255, 256, 384])
def test_network_sizes_equal_opencv(side: int, size: int) -> None:
    """The networks' own sizes, with the identity and the exact 2:1 that OpenCV treats by themselves."""
    frame = np.random.default_rng(side * size).integers(0, 256, (720, 1280, 3), np.uint8)
    for x, y in [(100, 50), (-side // 3, -side // 2), (1280 - side // 2, 720 - side // 3)]:
        rectangle = CropRectangle(x, y, side)
        for edge in Edge:
            np.testing.assert_array_equal(
                crop(frame, rectangle, size, edge=edge, border=(1, 128, 255)),
                crop_opencv(frame, rectangle, size, edge=edge, border=(1, 128, 255)),
            )


def test_a_read_only_frame_is_cropped_as_it_is() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    frame.flags.writeable = False
    rectangle = CropRectangle(5, 5, 20)
    np.testing.assert_array_equal(crop(frame, rectangle, 32), crop_opencv(frame, rectangle, 32))
