"""The kernels without a GPU: their source on the host against the golden files, then nvcc and NVRTC."""

import ctypes
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jntrt.runtime.cuda import kernels
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import box_to_frame, crop_rectangle
from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]
NATIVE = ROOT / "runtime" / "native"
GOLDEN = ROOT / "tests" / "data" / "golden"
CROPS = [c for c in json.loads((GOLDEN / "crops/crops.json").read_text())["cases"] if c["result"] == "ok"]
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120", "compute_75"]


@cache
def read_rgb(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def describe(frame: NDArray[np.uint8]) -> NDArray[Any]:
    row_bytes = frame.strides[0]
    return np.array([(frame.ctypes.data, frame.shape[1], frame.shape[0], row_bytes)], kernels.FRAME)


def launch(
    library: ctypes.CDLL, name: str, grid: Sequence[int], block: Sequence[int], arguments: list[Any]
) -> None:
    pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(value) for value in arguments))
    failed = library.jntrt_host_launch(
        name.encode(), (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers
    )
    assert failed == 0


def host_crop(
    library: ctypes.CDLL, frame: NDArray[np.uint8], lanes: NDArray[Any], size: int, swap: bool = False
) -> NDArray[np.uint8]:
    out = np.full((len(lanes), size, size, 3), 77, np.uint8)
    description = describe(frame)
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
    factor: float,
    size: int,
) -> NDArray[Any]:
    results = np.zeros(len(lanes), kernels.RESULT)
    description = describe(frame)
    arrays = (description, boxes, scores, lanes, results)
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    rest = [ctypes.c_int(len(lanes)), ctypes.c_double(factor), ctypes.c_int(size)]
    launch(library, "jntrt_box", (-(-len(lanes) // 32), 1, 1), (32, 1, 1), [*addresses, *rest])
    return results


@pytest.mark.parametrize("case", [c for c in CROPS if "quirk" not in c], ids=lambda c: c["id"])
def test_golden_crops(host_kernels: ctypes.CDLL, case: dict[str, Any]) -> None:
    frame = read_rgb(GOLDEN / "crops" / f"{case['frame']}.png")
    lanes = kernels.aim(np.array([case["box"]]), case["factor"], case["size"])
    crop = host_crop(host_kernels, frame, lanes, case["size"])
    assert hashlib.sha256(crop.tobytes()).hexdigest() == case["sha256"]


def test_lanes_share_a_frame_and_channels_swap(host_kernels: ctypes.CDLL) -> None:
    cases = [c for c in CROPS if c["frame"] == "f0_1280x720" and c["size"] == 256 and c["factor"] == 4.0][:3]
    assert len(cases) > 1
    frame = np.ascontiguousarray(read_rgb(GOLDEN / "crops" / "f0_1280x720.png")[..., ::-1])
    lanes = kernels.aim(np.array([c["box"] for c in cases]), 4.0, 256)
    crops = host_crop(host_kernels, frame, lanes, 256, swap=True)
    assert [hashlib.sha256(crop.tobytes()).hexdigest() for crop in crops] == [c["sha256"] for c in cases]


def test_a_lost_lane_is_black(host_kernels: ctypes.CDLL) -> None:
    lanes = np.zeros(1, kernels.LANE)
    assert not host_crop(host_kernels, np.full((48, 64, 3), 200, np.uint8), lanes, 32).any()


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
        lanes = kernels.aim(np.array([step["state"]]), 4.0, 256)
        assert (lanes["x"][0], lanes["y"][0], lanes["side"][0]) == step["square"]
        crop = host_crop(host_kernels, frame, lanes, 256)
        assert hashlib.sha256(crop.tobytes()).hexdigest() == step["sha256"]
        boxes = np.array([step["box"]], np.float32)
        result = host_step(host_kernels, frame, lanes, boxes, np.array([0.5], np.float32), 4.0, 256)[0]
        assert result["status"] == 0
        # The released trackers scale the box to pixels in single precision: 7.3e-5 px at most.
        np.testing.assert_allclose(result["box"], step["new_state"], atol=2e-4, rtol=0)
        np.testing.assert_array_equal(lanes["box"][0], result["box"])
        following = kernels.aim(lanes["box"], 4.0, 256)
        assert following.tobytes() == lanes.tobytes()


def test_golden_boxes(host_kernels: ctypes.CDLL) -> None:
    for case in json.loads((GOLDEN / "boxes.json").read_text())["cases"]:
        side = round(case["search_size"] / case["resize_factor"])
        out = np.zeros(4)
        host_kernels.jntrt_host_box(
            np.array(case["pred_norm"], np.float32).ctypes.data_as(ctypes.c_void_p),
            np.array(case["state"]).ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int(side),
            ctypes.c_int(case["W"]),
            ctypes.c_int(case["H"]),
            out.ctypes.data_as(ctypes.c_void_p),
        )
        np.testing.assert_allclose(out, case["new_state"], atol=2e-4, rtol=2e-7)


coordinate = st.floats(-1e5, 1e5)
length = st.floats(1e-3, 1e5)


@settings(max_examples=300, deadline=None)
@given(st.tuples(coordinate, coordinate, length, length), st.sampled_from([2.0, 4.0, 5.0]))
def test_squares_equal_geometry(host_kernels: ctypes.CDLL, box: tuple[float, ...], factor: float) -> None:
    out = (ctypes.c_int * 3)()
    host_kernels.jntrt_host_square((ctypes.c_double * 4)(*box), ctypes.c_double(factor), out)
    try:
        expected = crop_rectangle(box, factor)
    except UserError:
        assert out[2] == 0
    else:
        assert tuple(out) == (expected.x, expected.y, expected.side)


unit = st.floats(-2, 3, width=32)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(unit, unit, unit, unit),
    st.tuples(coordinate, coordinate, length, length),
    st.integers(1, 65536),
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
def test_boxes_equal_geometry(
    host_kernels: ctypes.CDLL,
    crop_box: tuple[float, ...],
    state: tuple[float, ...],
    side: int,
    size: tuple[int, int],
) -> None:
    out = (ctypes.c_double * 4)()
    host_kernels.jntrt_host_box(
        (ctypes.c_float * 4)(*crop_box),
        (ctypes.c_double * 4)(*state),
        ctypes.c_int(side),
        ctypes.c_int(size[0]),
        ctypes.c_int(size[1]),
        out,
    )
    assert tuple(out) == box_to_frame(crop_box, state, side, *size)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_box_that_is_not_finite_moves_nothing(host_kernels: ctypes.CDLL, bad: float) -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    for place in range(5):
        lanes = kernels.aim(np.array([[10.0, 10, 20, 20], [40.0, 40, 20, 20]]), 4.0, 256)
        before = lanes.copy()
        boxes, scores = np.full((2, 4), 0.5, np.float32), np.full(2, 0.5, np.float32)
        if place < 4:
            boxes[0, place] = bad
        else:
            scores[0] = bad
        results = host_step(host_kernels, frame, lanes, boxes, scores, 4.0, 256)
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
