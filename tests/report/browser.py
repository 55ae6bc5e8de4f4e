"""A real headless Chromium, and what it complains about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
READY = "document.documentElement.dataset.ready === 'true'"

_COUNT = """(wanted) => {
  const drawn = document.querySelector("#timeline canvas");
  const copy = Object.assign(document.createElement("canvas"),
    { width: drawn.width, height: drawn.height });
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(drawn, 0, 0);
  const { data } = pen.getImageData(0, 0, copy.width, copy.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    count += [...wanted, 255].every((value, k) => data[i + k] === value);
  }
  return count;
}"""


def chromium() -> str | None:
    """Where Chromium is, None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def started() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    path = chromium()
    if path is None:
        pytest.skip(f"no Chromium on the path (looked for {', '.join(NAMES)})")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page in the browser.

    Attributes:
        page: Playwright's page.
        complaints: messages of the console and errors of scripts.
        requests: addresses of everything that was loaded.
    """

    def __init__(self, browser: Any, path: Path, dark: bool = False, width: int = 1280) -> None:
        scheme = "dark" if dark else "light"
        viewport = {"width": width, "height": 900}
        self.page = browser.new_page(viewport=viewport, color_scheme=scheme)
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function(READY)

    def point_at(self, place: str, across: float, down: float) -> None:
        """Move the mouse to a share of the width and pixels from the top of a drawing's area."""
        area = self.page.locator(f"{place} .nsewdrag").first
        area.evaluate("element => element.scrollIntoView({block: 'center'})")
        box = area.bounding_box()
        self.page.mouse.move(box["x"] + across * box["width"], box["y"] + down)

    def painted(self, colour: str) -> int:
        """Pixels of the timeline that are exactly of a colour, ``#RRGGBB``."""
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        pixels: int = self.page.evaluate(_COUNT, wanted)
        return pixels
