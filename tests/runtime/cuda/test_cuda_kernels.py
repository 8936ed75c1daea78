"""The kernels without a GPU: their source on the host against the golden files, then nvcc and NVRTC."""

import ctypes
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from golden_conventions import (
    CENTRE,
    FAMILIES,
    NANOTRACK,
    NANOTRACK_LOOPS,
    OSTRACK,
    frame_of,
    nanotrack_loop,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jntrt.runtime.bundle.conventions import CropSpec, StateSpec
from jntrt.runtime.crop import BLACK, Colour, border_colour, crop
from jntrt.runtime.cuda import kernels
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import box_to_frame, crop_rectangle, crop_span, hidden_lines

ROOT = Path(__file__).parents[3]
NATIVE = ROOT / "runtime" / "native"
GOLDEN = ROOT / "tests" / "data" / "golden"
CROPS = [c for c in json.loads((GOLDEN / "crops/crops.json").read_text())["cases"] if c["result"] == "ok"]
NUMBERS = (75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121)  # 87: Orin, 110: Thor, 121: Spark
ARCHITECTURES = [*(f"sm_{number}" for number in NUMBERS), "compute_75"]


@cache
def read_rgb(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def describe(frame: NDArray[np.uint8], spec: CropSpec, border: Colour = BLACK) -> NDArray[Any]:
    size = (frame.shape[1], frame.shape[0], frame.strides[0])
    return np.array([(frame.ctypes.data, *size, hidden_lines(spec.edge), (*border, 0))], kernels.FRAME)


def launch(
    library: ctypes.CDLL, name: str, grid: Sequence[int], block: Sequence[int], arguments: list[Any]
) -> None:
    pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(value) for value in arguments))
    failed = library.jntrt_host_launch(
        name.encode(), (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers
    )
    assert failed == 0


def host_crop(
    library: ctypes.CDLL,
    frame: NDArray[np.uint8],
    lanes: NDArray[Any],
    spec: CropSpec,
    swap: bool = False,
    border: Colour = BLACK,
) -> NDArray[np.uint8]:
    size = spec.size
    out = np.full((len(lanes), size, size, 3), 77, np.uint8)
    description = describe(frame, spec, border)
    grid = (-(-size // kernels.BLOCK[0]), -(-size // kernels.BLOCK[1]), len(lanes))
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in (description, lanes, out)]
    launch(library, "jntrt_crop", grid, kernels.BLOCK, [*addresses, ctypes.c_int(size), ctypes.c_int(swap)])
    return out


def host_step(
    library: ctypes.CDLL,
    frame: NDArray[np.uint8],
    lanes: NDArray[Any],
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    spec: CropSpec = OSTRACK,
    rule: StateSpec | None = None,
    sizes: NDArray[np.float32] | None = None,
) -> NDArray[Any]:
    results = np.zeros(len(lanes), kernels.RESULT)
    arrays = (
        describe(frame, spec),
        kernels.rule_of(spec, rule or StateSpec()),
        boxes,
        scores,
        lanes,
        results,
    )
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    addresses.append(ctypes.c_void_p(0 if sizes is None else sizes.ctypes.data))
    count = ctypes.c_int(len(lanes))
    launch(library, "jntrt_box", (-(-len(lanes) // 32), 1, 1), (32, 1, 1), [*addresses, count])
    return results


@pytest.mark.parametrize("case", [c for c in CROPS if "quirk" not in c], ids=lambda c: c["id"])
def test_golden_crops(host_kernels: ctypes.CDLL, case: dict[str, Any]) -> None:
    frame = read_rgb(GOLDEN / "crops" / f"{case['frame']}.png")
    spec = CropSpec(case["size"], case["factor"])
    crop = host_crop(host_kernels, frame, kernels.aim(np.array([case["box"]]), spec), spec)
    assert hashlib.sha256(crop.tobytes()).hexdigest() == case["sha256"]


def test_lanes_share_a_frame_and_channels_swap(host_kernels: ctypes.CDLL) -> None:
    cases = [c for c in CROPS if c["frame"] == "f0_1280x720" and c["size"] == 256 and c["factor"] == 4.0][:3]
    assert len(cases) > 1
    frame = np.ascontiguousarray(read_rgb(GOLDEN / "crops" / "f0_1280x720.png")[..., ::-1])
    lanes = kernels.aim(np.array([c["box"] for c in cases]), OSTRACK)
    crops = host_crop(host_kernels, frame, lanes, OSTRACK, swap=True)
    assert [hashlib.sha256(crop.tobytes()).hexdigest() for crop in crops] == [c["sha256"] for c in cases]


def test_a_lost_lane_is_black(host_kernels: ctypes.CDLL) -> None:
    lanes = np.zeros(1, kernels.LANE)
    assert not host_crop(host_kernels, np.full((48, 64, 3), 200, np.uint8), lanes, CropSpec(32)).any()


def recorded_steps(folder: Path) -> list[dict[str, Any]]:
    """Both golden loops in one form; a square is (x, y, side)."""
    loop = json.loads((folder / "loop.json").read_text())
    if "steps" in loop:
        return [
            {
                "frame": step["frame"],
                "state": step["state"],
                "square": (step["crop"]["x1"], step["crop"]["y1"], step["crop"]["c"]),
                "sha256": step["crop_sha256"],
                "box": step["box"],
                "new_state": step["new_state"],
            }
            for step in loop["steps"]
        ]
    return [
        {
            "frame": record["frame"],
            "state": record["state_before"],
            "square": tuple(record["crop"]),
            "sha256": record["crop_sha256"],
            "box": record["pred_box_norm"],
            "new_state": record["state_after"],
        }
        for record in loop["records"]
        if record.get("pred_box_norm")
    ]


@pytest.mark.parametrize("folder", ["loops/ostrack256_ce_loop", "jn/loop"])
def test_golden_loop(host_kernels: ctypes.CDLL, folder: str) -> None:
    """Every frame: the crop of the recorded state, then the recorded network box to the next state."""
    steps = recorded_steps(GOLDEN / folder)
    assert len(steps) >= 15
    for step in steps:
        frame = read_rgb(GOLDEN / folder / "frames" / f"{step['frame']:03}.png")
        lanes = kernels.aim(np.array([step["state"]]), OSTRACK)
        assert (lanes["x"][0], lanes["y"][0], lanes["side"][0]) == step["square"]
        crop = host_crop(host_kernels, frame, lanes, OSTRACK)
        assert hashlib.sha256(crop.tobytes()).hexdigest() == step["sha256"]
        boxes = np.array([step["box"]], np.float32)
        result = host_step(host_kernels, frame, lanes, boxes, np.array([0.5], np.float32))[0]
        assert result["status"] == 0
        # The released trackers scale the box to pixels in single precision: 7.3e-5 px at most.
        np.testing.assert_allclose(result["box"], step["new_state"], atol=2e-4, rtol=0)
        np.testing.assert_array_equal(lanes["box"][0], result["box"])
        following = kernels.aim(lanes["box"], OSTRACK)
        assert following.tobytes() == lanes.tobytes()


def test_golden_boxes(host_kernels: ctypes.CDLL) -> None:
    rule = kernels.rule_of(OSTRACK, StateSpec())
    for case in json.loads((GOLDEN / "boxes.json").read_text())["cases"]:
        side = round(case["search_size"] / case["resize_factor"])
        out = np.zeros(4)
        host_kernels.jntrt_host_box(
            np.array(case["pred_norm"], np.float32).ctypes.data_as(ctypes.c_void_p),
            np.array(case["state"]).ctypes.data_as(ctypes.c_void_p),
            ctypes.c_double(side),
            ctypes.c_int(case["W"]),
            ctypes.c_int(case["H"]),
            ctypes.c_void_p(rule.ctypes.data),
            out.ctypes.data_as(ctypes.c_void_p),
        )
        np.testing.assert_allclose(out, case["new_state"], atol=2e-4, rtol=2e-7)


coordinate = st.floats(-1e5, 1e5)
length = st.floats(1e-3, 1e5)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=200, deadline=None)
@given(
    st.tuples(coordinate, coordinate, length, length),
    st.sampled_from([2.0, 4.0, 5.0]),
    st.sampled_from([127, 255, 256]),
)
def test_squares_equal_geometry(
    host_kernels: ctypes.CDLL, family: str, box: tuple[float, ...], factor: float, size: int
) -> None:
    spec = replace(FAMILIES[family][0], factor=factor, size=size)
    rule = kernels.rule_of(spec, StateSpec())
    out, span = (ctypes.c_int * 3)(), ctypes.c_double()
    host_kernels.jntrt_host_square(
        (ctypes.c_double * 4)(*box), ctypes.c_void_p(rule.ctypes.data), out, ctypes.byref(span)
    )
    try:
        expected = crop_rectangle(box, spec)
    except UserError:
        assert out[2] == 0
    else:
        assert tuple(out) == (expected.x, expected.y, expected.side)
        assert span.value == crop_span(box, spec)


unit = st.floats(-2, 3, width=32)


@pytest.mark.parametrize("rule", [StateSpec(), StateSpec(least_size=4.0), CENTRE], ids=str)
@settings(max_examples=200, deadline=None)
@given(
    st.tuples(unit, unit, unit, unit),
    st.tuples(coordinate, coordinate, length, length),
    st.floats(1, 65536),
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
def test_boxes_equal_geometry(
    host_kernels: ctypes.CDLL,
    rule: StateSpec,
    crop_box: tuple[float, ...],
    state: tuple[float, ...],
    span: float,
    size: tuple[int, int],
) -> None:
    out = (ctypes.c_double * 4)()
    native_rule = kernels.rule_of(OSTRACK, rule)
    host_kernels.jntrt_host_box(
        (ctypes.c_float * 4)(*crop_box),
        (ctypes.c_double * 4)(*state),
        ctypes.c_double(span),
        ctypes.c_int(size[0]),
        ctypes.c_int(size[1]),
        ctypes.c_void_p(native_rule.ctypes.data),
        out,
    )
    assert tuple(out) == box_to_frame(crop_box, state, span, *size, rule)


@pytest.mark.parametrize("number", NANOTRACK_LOOPS)
def test_nanotrack_loop(host_kernels: ctypes.CDLL, number: int) -> None:
    """The crop of every recorded state, then the recorded box, the next square and the next size."""
    loop = nanotrack_loop(number)
    border = border_colour(frame_of(loop, 0), NANOTRACK)
    for index, step in enumerate(loop["steps"], start=1):
        frame = frame_of(loop, index)
        (cx, cy), (w, h) = step["previous_centre"], step["previous_size"]
        lanes = kernels.aim(np.array([[cx - w / 2, cy - h / 2, w, h]]), NANOTRACK)
        expected = (step["crop"]["x1"], step["crop"]["y1"], step["crop"]["side"])
        assert (lanes["x"][0], lanes["y"][0], lanes["side"][0]) == expected
        pixels = host_crop(host_kernels, frame, lanes, NANOTRACK, border=border)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == step["crop"]["sha256"]
        span = lanes["span"][0]
        centre = [(new - old) / span + 0.5 for new, old in zip(step["centre"], (cx, cy), strict=True)]
        boxes = np.array([[*centre, step["size"][0] / span, step["size"][1] / span]], np.float32)
        sizes, scores = np.zeros((1, 2), np.float32), np.ones(1, np.float32)
        result = host_step(host_kernels, frame, lanes, boxes, scores, NANOTRACK, CENTRE, sizes)[0]
        assert result["status"] == 0
        np.testing.assert_allclose(result["box"], step["box"], atol=2e-4, rtol=0)
        assert lanes.tobytes() == kernels.aim(lanes["box"], NANOTRACK).tobytes()
        np.testing.assert_array_equal(sizes, kernels.sizes(lanes["box"], NANOTRACK))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    box=st.tuples(st.floats(-80, 80), st.floats(-80, 80), st.floats(1, 60), st.floats(1, 60)),
    size=st.integers(1, 80),
    border=st.tuples(*[st.integers(0, 255)] * 3),
    swap=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_pixels_equal_the_host(
    host_kernels: ctypes.CDLL,
    width: int,
    height: int,
    box: tuple[float, ...],
    size: int,
    border: Colour,
    swap: bool,
    seed: int,
) -> None:
    spec = replace(NANOTRACK, size=size)
    try:
        lanes = kernels.aim(np.array([box]), spec)
    except UserError:
        assume(False)
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    rectangle = crop_rectangle(box, spec)
    wanted = crop(frame, rectangle, size, swap=swap, edge=spec.edge, border=border)
    np.testing.assert_array_equal(host_crop(host_kernels, frame, lanes, spec, swap, border)[0], wanted)


@pytest.mark.parametrize(("size", "swap"), [(32, False), (45, True), (77, False)])
def test_blocks_share_their_taps(block_kernels: ctypes.CDLL, size: int, swap: bool) -> None:
    """The device's own branch: each tap computed once per block, in memory that its threads share."""
    spec = replace(NANOTRACK, size=size)
    boxes = np.array([[10.0, 12, 20, 16], [-9.0, -7, 30, 40], [70.0, 50, 25, 12]])
    lanes = np.concatenate([kernels.aim(boxes, spec), np.zeros(1, kernels.LANE)])  # the last is lost
    frame = np.random.default_rng(size).integers(0, 256, (64, 96, 3), np.uint8)
    crops = host_crop(block_kernels, frame, lanes, spec, swap, (9, 80, 200))
    for box, found in zip(boxes.tolist(), crops, strict=False):
        square = crop_rectangle(box, spec)
        wanted = crop(frame, square, size, swap=swap, edge=spec.edge, border=(9, 80, 200))
        np.testing.assert_array_equal(found, wanted)
    assert not crops[-1].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_box_that_is_not_finite_moves_nothing(host_kernels: ctypes.CDLL, bad: float) -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    for place in range(5):
        lanes = kernels.aim(np.array([[10.0, 10, 20, 20], [40.0, 40, 20, 20]]), OSTRACK)
        before = lanes.copy()
        boxes, scores = np.full((2, 4), 0.5, np.float32), np.full(2, 0.5, np.float32)
        if place < 4:
            boxes[0, place] = bad
        else:
            scores[0] = bad
        results = host_step(host_kernels, frame, lanes, boxes, scores)
        assert list(results["status"]) == [1, 0]
        assert lanes[0] == before[0]
        assert lanes[1] != before[1]
        np.testing.assert_array_equal(results["box"][0], before["box"][0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_compiles(architecture: str, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc here: the wheel then compiles the kernels with NVRTC")
    out = tmp_path / "kernels.fatbin"
    target = architecture.replace("sm_", "compute_")
    command = [
        nvcc,
        "-std=c++17",
        "--fmad=false",
        "-fatbin",
        "-gencode",
        f"arch={target},code={architecture}",
    ]
    run = subprocess.run(
        [*command, "-Werror", "all-warnings", "-o", str(out), str(NATIVE / "kernels.cu")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert out.stat().st_size > 1000


@pytest.mark.parametrize("capability", [(7, 5), (9, 0), (12, 0)])
def test_nvrtc_compiles(capability: tuple[int, int]) -> None:
    """The path of a wheel without a fatbin; NVRTC needs no driver."""
    cubin = kernels.compile_sources(capability)
    assert cubin[:4] == b"\x7fELF"
    assert b"jntrt_crop" in cubin
    assert b"jntrt_box" in cubin
