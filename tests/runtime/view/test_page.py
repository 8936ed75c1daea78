"""The page in headless Chromium: a box is drawn and its target tracked, drawn anew, stopped.

Skipped, and said so, where no chromium with its chromedriver is found.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import browser
import cv2
import numpy as np
import pytest

pytest.importorskip("selenium")
pytestmark = pytest.mark.skipif(
    not (browser.CHROMIUM and browser.DRIVER), reason="no chromium with chromedriver: apt install them"
)

PERIOD, COUNT = 60, 6000
SIZE = 40


def target(index: int) -> tuple[int, int, int, int]:
    """Where the drawn target is in frame `index`."""
    phase = 2 * np.pi * index / PERIOD
    return round(300 + 90 * np.sin(phase)), round(160 + 50 * np.cos(phase)), SIZE, SIZE


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chequered disc that goes round over noise, 640×360; as long as a test may take."""
    folder = tmp_path_factory.mktemp("clip")
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(60, 150, (45, 80, 3), np.uint8), (640, 360))
    patch = cv2.resize(random.integers(0, 255, (4, 4, 3), np.uint8), (SIZE, SIZE), interpolation=0)
    for index in range(PERIOD):
        x, y, w, h = target(index)
        image = ground.copy()
        image[y : y + h, x : x + w] = patch
        cv2.imwrite(str(folder / f"{index:05d}.png"), image)
    for index in range(PERIOD, COUNT):
        os.link(folder / f"{index % PERIOD:05d}.png", folder / f"{index:05d}.png")
    return folder


@pytest.fixture
def run(clip: Path) -> Iterator[browser.Run]:
    run = browser.Run(clip, "--backend", "onnxruntime", "--threads", "1")
    yield run
    run.kill()


def overlap(one: list[float], two: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes x, y, w, h."""
    sides = [max(0.0, min(one[i] + one[i + 2], two[i] + two[i + 2]) - max(one[i], two[i])) for i in range(2)]
    inside = sides[0] * sides[1]
    return inside / (one[2] * one[3] + two[2] * two[3] - inside)


def test_draw_track_draw_again_stop(run: browser.Run, tmp_path: Path) -> None:
    with browser.opened(run.url, tmp_path) as page:
        page.until("state.phase === 'choose' && state.size[0] === 640 && picture.naturalWidth === 640")
        assert page.script("document.getElementById('track').disabled")
        page.drag(target(0))
        drawn = page.script("drafts[0]")
        assert np.abs(np.subtract(drawn, target(0))).max() <= 1
        assert all(isinstance(value, int) for value in drawn)
        page.click("track")
        page.until("state.phase === 'run' && state.frame > 20")
        frame, boxes = page.script("[state.frame, state.boxes]")
        assert overlap(boxes[0], target(frame)) > 0.5
        page.until("scores.length > 20 && scores.at(-1)[1][0] > 0.3")

        page.drag((20, 20, 60, 50))  # drawing pauses
        page.until("state.phase === 'pause'")
        again, wrong = page.script("[state.frame, drafts[0]]")
        page.click("track")
        page.until(f"state.phase === 'run' && state.frame > {again + 3}")
        page.click("pause")
        page.until("state.phase === 'pause'")
        paused = page.script("state.frame")
        page.click("step")
        page.until(f"state.frame === {paused + 1}")
        page.drag(target(paused + 1))
        page.click("track")
        page.until(f"state.phase === 'run' && state.frame > {paused + 20}")
        page.click("stop")
        page.until("state.phase === 'end'")
        assert "over" in page.script("document.getElementById('message').textContent")
        assert page.complaints() == []
    code, lines, err = run.ended()
    assert code == 0, err
    assert lines[0]["box"] == drawn
    assert lines[again]["box"] == wrong
    assert lines[again]["score"] is None
    assert overlap(lines[again - 1]["box"], target(again - 1)) > 0.5
    assert overlap(lines[again + 3]["box"], target(again + 3)) == 0
    assert all(overlap(line["box"], target(line["frame"])) > 0.5 for line in lines[paused + 1 :])
    assert paused + 20 < len(lines) < COUNT


def test_two_viewers_and_two_targets(run: browser.Run, tmp_path: Path) -> None:
    with (
        browser.opened(run.url, tmp_path / "desk") as desk,
        browser.opened(run.url, tmp_path / "phone", 390, 844, dark=True) as phone,
    ):
        for page in (desk, phone):
            page.until("state.phase === 'choose' && picture.naturalWidth === 640")
        phone.touch("touchStart", (50, 40))
        phone.touch("touchMove", (80, 60))
        phone.touch("touchMove", (110, 90))
        phone.touch("touchEnd")
        scale = phone.script("base * zoom")
        expected = [50 / scale, 40 / scale, 60 / scale, 50 / scale]
        assert np.abs(np.subtract(phone.script("drafts[0]"), expected)).max() <= 1.5
        phone.touch("touchStart", (100, 100), (200, 100))
        phone.touch("touchMove", (50, 100), (250, 100))
        phone.touch("touchEnd")
        assert phone.script("zoom") == pytest.approx(2, rel=0.05)
        assert (
            np.abs(np.subtract(phone.script("drafts[0]"), expected)).max() <= 1.5
        )  # two fingers draw nothing

        desk.drag(target(0))
        desk.script("[...document.querySelectorAll('#targets button')].at(-1).click()")
        desk.drag((40, 250, 50, 50))
        assert desk.script("drafts.length") == 2
        desk.click("track")
        for page in (desk, phone):
            page.until("state.phase === 'run' && state.frame > 10")
        phone.click("pause")
        for page in (desk, phone):
            page.until("state.phase === 'pause'")
        page.until("scores.length === state.frame + 1")
        assert desk.script("JSON.stringify(state.boxes)") == phone.script("JSON.stringify(state.boxes)")
        frame, boxes = desk.script("[state.frame, state.boxes]")
        assert len(boxes) == 2
        assert overlap(boxes[0], target(frame)) > 0.5
        phone.click("stop")
        for page in (desk, phone):
            page.until("state.phase === 'end'")
            assert page.complaints() == []
    code, lines, err = run.ended()
    assert code == 0, err
    assert np.shape(lines[-1]["box"]) == (2, 4)


# WCAG's contrast with the ground of every pixel that a line of the curve covers, which has its own colour.
CONTRASTS = """(() => {
  const channel = (value) => value <= 10 ? value / 3294 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = luminance(getComputedStyle(curve).backgroundColor.match(/\\d+/g).map(Number));
  const { data } = curve.getContext("2d").getImageData(0, 0, curve.width, curve.height);
  const pixels = Array.from({ length: data.length / 4 }, (_, at) => data.subarray(4 * at, 4 * at + 4));
  const lights = pixels.filter((pixel) => pixel[3] > 200).map(luminance);
  return [ground, lights.map((seen) => (Math.max(seen, ground) + 0.05) / (Math.min(seen, ground) + 0.05))];
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_scores_are_seen_on_the_theme_s_ground(run: browser.Run, tmp_path: Path, dark: bool) -> None:
    with browser.opened(run.url, tmp_path / "profile", dark=dark) as page:
        page.until("state.phase === 'choose' && picture.naturalWidth === 640")
        page.script("drafts = [[280, 190, 40, 40], [40, 250, 50, 50]], render()")
        page.click("track")
        page.until("scores.length > 30")
        page.click("pause")
        page.until("state.phase === 'pause'")
        ground, contrasts = page.script(CONTRASTS)
        page.click("stop")
    assert (ground < 0.1) == dark
    assert len(contrasts) > 100
    assert min(contrasts) > 3


def test_stop_before_a_box(run: browser.Run, tmp_path: Path) -> None:
    with browser.opened(run.url, tmp_path) as page:
        page.until("state.size[0] === 640")
        page.click("stop")
    assert run.ended() == (2, [], "trtrun: stopped in the page, before a box was drawn\n")
