"""Seconds until a report is open in a real browser, and until its buttons have done their work.

Run `python -m benchmarks.report_speed [repetitions=N] [out=FOLDER]` with nothing else running; it
needs Chromium on the path and Playwright. A page counts as open when all its pictures are drawn and
the browser has shown a frame after that; the clock starts where the browser begins to load the
file. A button has done its work when the frame after its click was shown. The runs are made by
hand: 1F1B with everything recomputed and offloaded, drawn beside a measured run that is as long.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write
from remora.report.content import ReportContent
from remora.report.html import report_html
from remora.schedule.schedule import PipelineKind, PipelinePlan
from tests.api.small_models import small_plan
from tests.report.browser import ARGUMENTS, READY, chromium
from tests.report.contents import drawn_as, verification_of
from tests.report.runs import pipeline_run

OPEN_TARGET_S, TOGGLE_TARGET_S, SIZE_TARGET_BYTES = 3.0, 0.2, 15_000_000
SHAPES = {"4 ranks, 8 micro-batches": (4, 8, 3), "16 ranks, 64 micro-batches": (16, 64, 4)}
"""Ranks, micro-batches and units of a rank."""

BUTTONS = {
    "hide a kind of work": "#timeline button[data-kind=backward]",
    "hide copies and messages": "button[data-toggle=beside]",
    "hide the measured run": "button[data-toggle=measured]",
    "hide a kind of memory": "#memory button[data-kind=saved]",
    "change the theme": "#theme",
}

_FRAMES = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
_OPENED = f"async () => {{ await {_FRAMES}; return performance.now() / 1000; }}"
_CLICKED = f"""async (name) => {{
  const button = document.querySelector(name), begun = performance.now();
  button.click();
  await {_FRAMES};
  return (performance.now() - begun) / 1000;
}}"""


def subject(content: ReportContent, ranks: int, micro_batches: int, units: int) -> ReportContent:
    """A report on a pipeline, with a measured run."""
    run = pipeline_run(ranks=ranks, micro_batches=micro_batches, units=units, offload=True)
    cuts = tuple(range(units, ranks * units, units))
    plan = PipelinePlan(PipelineKind.ONE_F_ONE_B, cuts, 1, micro_batches)
    drawn = drawn_as(content, run, plan)
    verification = dataclasses.replace(verification_of(drawn), timeline=run)
    return dataclasses.replace(drawn, verification=verification)


def measured(browser: Any, path: Path, repetitions: int) -> dict[str, Any]:
    """Median and slowest seconds of opening a page and of every button."""
    opened: list[float] = []
    clicks: dict[str, list[float]] = {name: [] for name in BUTTONS}
    for _ in range(repetitions):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_function(READY)
        opened.append(page.evaluate(_OPENED))
        for name, selector in BUTTONS.items():
            clicks[name] += [page.evaluate(_CLICKED, selector) for _ in range(2)]
        page.close()
    return {
        "bytes": path.stat().st_size,
        "open_s": _figures(opened),
        "buttons_s": {name: _figures(times) for name, times in clicks.items()},
    }


def _figures(times_s: list[float]) -> dict[str, float]:
    return {
        "fastest": min(times_s),
        "median": statistics.median(times_s),
        "slowest": max(times_s),
    }


def page_text(subjects: Mapping[str, Mapping[str, Any]], load: float) -> str:
    """The table, and how busy the machine was."""
    head = ["", *subjects, "target"]
    rows = [
        ["size", *(f"{s['bytes'] / 1e6:.2f} MB" for s in subjects.values()), "15 MB"],
        ["open", *(_cell(s["open_s"]) for s in subjects.values()), f"{OPEN_TARGET_S:.0f} s"],
    ]
    for name in BUTTONS:
        cells = (_cell(s["buttons_s"][name]) for s in subjects.values())
        rows.append([name, *cells, f"{TOGGLE_TARGET_S:.1f} s"])
    busy = f"While this ran, {load:.1f} processes on average wanted one of {os.cpu_count()} cores."
    return f"Median seconds (fastest to slowest).\n\n{table(head, rows)}\n\n{busy}"


def _cell(figures: Mapping[str, float]) -> str:
    return f"{figures['median']:.2f} ({figures['fastest']:.2f} to {figures['slowest']:.2f})"


def main() -> None:
    """Measure and write both files."""
    from playwright.sync_api import sync_playwright

    values = arguments(sys.argv[1:], {"repetitions": "5", "out": str(RESULTS)})
    path = chromium()
    if path is None:
        raise SystemExit("there is no Chromium on the path")
    content = small_plan().content()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        version = browser.version
        for name, shape in SHAPES.items():
            file = Path(folder) / "report.html"
            file.write_text(report_html(subject(content, *shape)), encoding="utf-8")
            found[name] = measured(browser, file, int(values["repetitions"]))
        browser.close()
    about = context("python -m benchmarks.report_speed", ("playwright",))
    about["versions"]["chromium"] = version
    load = os.getloadavg()[0]
    record = {"context": about, "load": load, "pages": found}
    write(Path(values["out"]), "report_speed", record, "Speed of reports", page_text(found, load))


if __name__ == "__main__":
    main()
