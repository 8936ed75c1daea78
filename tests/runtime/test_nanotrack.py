"""Published NanoTracks from frame to box against the official code's recorded runs."""

import hashlib
from typing import Any

import numpy as np
import pytest
from golden_bundles import nanotrack_weights, write_nanotrack
from golden_conventions import NANOTRACK_LOOPS, box_of, frame_of, nanotrack_loop

from jntrt.export.families import family
from jntrt.export.families.plain import load_weights
from jntrt.export.families.siamese.infer import recipe_from_weights
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.crop import border_colour
from jntrt.runtime.geometry import start_box
from jntrt.runtime.inputs import crops
from jntrt.train.run.measure import PlainTracker

VERSIONS = ("v1", "v2", "v3")
CLOSE = 1e-4  # between the best two responses: under it the other cell is right too
FORCED_PX, FREE_PX = 2e-3, 0.02


@pytest.fixture(scope="module", params=VERSIONS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_nanotrack(request.param, tmp_path_factory.mktemp("nanotrack") / request.param)


class PlainForm:
    """The network in PyTorch behind the tracker's calls."""

    def __init__(self, version: str) -> None:
        weights = nanotrack_weights(version)
        kind = family("siamese")
        model = kind.plain(recipe_from_weights(weights))
        load_weights(model, weights)
        self._tracker = PlainTracker(kind, model)

    def init(self, frame: np.ndarray, box: Any) -> None:
        self._tracker.init(frame, tuple(box))

    def update(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        box, score = self._tracker.update(frame)
        return np.array(box), score

    def move(self, box: Any) -> None:
        self._tracker._state = tuple(box)


class InEngine:
    """The bundle in an engine."""

    def __init__(self, bundle: Bundle, backend: str) -> None:
        self._tracker = Tracker.from_bundle(bundle, backend, threads=1)
        self.init = self._tracker.init

    def update(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        result = self._tracker.update(frame)
        return result.box, float(result.score)

    def move(self, box: Any) -> None:
        self._tracker.state = np.array(box)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino", "plain"])
def tracker(request: pytest.FixtureRequest, bundle: Bundle) -> Any:
    return PlainForm(bundle.name) if request.param == "plain" else InEngine(bundle, request.param)


@pytest.mark.parametrize("number", NANOTRACK_LOOPS)
def test_crops_of_every_step(bundle: Bundle, number: int) -> None:
    """By the bundle's own conventions: each byte."""
    loop = nanotrack_loop(number, bundle.name)
    first = frame_of(loop, 0)
    start = start_box(loop["init"], bundle.state)
    cases = [(first, start, bundle.template, loop["crop"])]
    for index, step in enumerate(loop["steps"], start=1):
        cases.append((frame_of(loop, index), box_of(step), bundle.search, step["crop"]))
    border = border_colour(first, bundle.search)
    for frame, box, spec, expected in cases:
        pixels = crops(frame, [box], spec, border=border)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("number", NANOTRACK_LOOPS)
def test_forced(tracker: Any, bundle: Bundle, number: int) -> None:
    """Every step from the recorded state."""
    loop = nanotrack_loop(number, bundle.name)
    tracker.init(frame_of(loop, 0), loop["init"])
    compared = 0
    for index, step in enumerate(loop["steps"], start=1):
        tracker.move(box_of(step))
        box, score = tracker.update(frame_of(loop, index))
        if step["margin"] < CLOSE:
            continue
        np.testing.assert_allclose(box, step["box"], rtol=0, atol=FORCED_PX)
        assert score == pytest.approx(step["score"], abs=1e-5)
        compared += 1
    assert compared >= len(loop["steps"]) - 1


@pytest.mark.parametrize("number", NANOTRACK_LOOPS)
def test_free_running(tracker: Any, bundle: Bundle, number: int) -> None:
    """From the first box alone; after a step that two cells decide alike the recorded state goes on."""
    loop = nanotrack_loop(number, bundle.name)
    tracker.init(frame_of(loop, 0), loop["init"])
    for index, step in enumerate(loop["steps"], start=1):
        box, score = tracker.update(frame_of(loop, index))
        if step["margin"] < CLOSE:
            tracker.move(step["box"])
            continue
        np.testing.assert_allclose(box, step["box"], rtol=0, atol=FREE_PX)
        assert score == pytest.approx(step["score"], abs=1e-5)
