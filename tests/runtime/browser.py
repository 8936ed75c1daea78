"""Headless Chromium, and a run of trtrun --view to look at with it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


class Page:
    """A browser with the page open. `width` to `height` in CSS pixels; `phone`: touch instead of a mouse."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def script(self, text: str) -> Any:
        return self._driver.execute_script(f"return {text}")

    def until(self, condition: str, seconds: float = 20) -> None:
        """Wait for a condition in the page's script."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self._driver, seconds, 0.02).until(lambda _: self.script(condition), condition)

    def click(self, name: str) -> None:
        self.script(f"document.getElementById('{name}').click()")

    def drag(self, box: tuple[float, float, float, float]) -> None:
        """Draw a box, x, y, w, h in image pixels, with the pointer."""
        x, y, w, h = box
        place = "(() => { const r = sheet.getBoundingClientRect(); return [r.left, r.top, base * zoom]; })()"
        left, top, scale = self.script(place)
        corners = [(left + x * scale, top + y * scale), (left + (x + w) * scale, top + (y + h) * scale)]
        middle = tuple(sum(values) / 2 for values in zip(*corners, strict=True))
        for kind, (px, py) in [
            ("mousePressed", corners[0]),
            ("mouseMoved", middle),
            ("mouseMoved", corners[1]),
            ("mouseReleased", corners[1]),
        ]:
            words = {"type": kind, "x": px, "y": py, "button": "left", "buttons": 1, "clickCount": 1}
            self._driver.execute_cdp_cmd("Input.dispatchMouseEvent", words)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """A touch event, `touchStart`, `touchMove` or `touchEnd`, with fingers at points of the stage."""
        left, top = self.script("[stage.getBoundingClientRect().left, stage.getBoundingClientRect().top]")
        fingers = [{"x": left + x, "y": top + y, "id": index} for index, (x, y) in enumerate(points)]
        self._driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    def picture(self, path: Path) -> None:
        self._driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """What the browser's console says."""
        return [entry["message"] for entry in self._driver.get_log("browser")]


@contextmanager
def opened(
    url: str, profile: Path, width: int = 1280, height: int = 800, *, dark: bool = False
) -> Iterator[Page]:
    """A browser of its own that shows `url`; narrower than 600 pixels it is a phone."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.page_load_strategy = "eager"  # the picture's stream never ends
    for flag in [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        phone = width < 600
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(url)
        yield Page(driver)
    finally:
        driver.quit()


class Run:
    """A process of trtrun --view --json: `url` of its page."""

    def __init__(self, *words: str | Path) -> None:
        line = [sys.executable, "-m", "jntrt.runtime.trtrun", *map(str, words), "--view", "--json"]
        self._process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        match = re.search(r"http://\S+", said)
        assert match, said + self._process.stderr.read()
        self.url = match[0]

    def ended(self) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, JSON lines and stderr, once it has ended."""
        out, err = self._process.communicate(timeout=60)
        return self._process.returncode, [json.loads(line) for line in out.splitlines()], err

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
