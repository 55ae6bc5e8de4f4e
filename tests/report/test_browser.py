"""Reports as people see them: in a real browser, without a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remora.api.plan import Plan
from remora.report.colours import INSTRUCTION_STYLES
from remora.report.content import ReportContent
from remora.report.front_page import front_html
from remora.report.html import report_html
from remora.schedule.program import InstructionKind
from remora.schedule.schedule import PipelineKind, PipelinePlan
from remora.simulator.timeline import Timeline
from tests.report.browser import Opened, started
from tests.report.contents import drawn_as, verification_of
from tests.report.runs import pipeline_run

UNIT = "<b>odd</b> & 'name'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as browser:
        yield browser


def _measured(content: ReportContent) -> ReportContent:
    verification = verification_of(content)
    longer = dataclasses.replace(content.timeline, step_time_s=1.2 * content.timeline.step_time_s)
    return dataclasses.replace(
        content, verification=dataclasses.replace(verification, timeline=longer)
    )


def _piped(content: ReportContent, ranks: int = 4, micro_batches: int = 6) -> ReportContent:
    run = pipeline_run(ranks=ranks, micro_batches=micro_batches, units=2, offload=True)
    cuts = tuple(range(2, 2 * ranks, 2))
    plan = PipelinePlan(PipelineKind.ONE_F_ONE_B, cuts, 1, micro_batches)
    return drawn_as(content, run, plan)


@pytest.fixture(scope="module")
def pages(made_plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of every sort."""
    content, explained = made_plan.content(), made_plan.explained_content()
    units = (dataclasses.replace(explained.graph.units[0], name=UNIT), *explained.graph.units[1:])
    named = dataclasses.replace(explained, graph=dataclasses.replace(explained.graph, units=units))
    budgets = [
        dataclasses.replace(content, budget_bytes=times * content.budget_bytes) for times in (1, 2)
    ]
    written = {
        "one device": report_html(named),
        "pipeline": report_html(_piped(content)),
        "verified": report_html(_measured(_piped(content))),
        "many ranks": report_html(_piped(content, ranks=6)),
        "sweep": front_html(budgets),
    }
    folder = tmp_path_factory.mktemp("pages")
    paths = {}
    for name, page in written.items():
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(page, encoding="utf-8")
    return paths


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
@pytest.mark.parametrize("name", ["one device", "pipeline", "verified", "many ranks", "sweep"])
def test_pages_open_without_a_complaint_or_a_network(
    name: str, width: int, dark: bool, browser: Any, pages: dict[str, Path]
) -> None:
    opened = Opened(browser, pages[name], dark, width)
    assert opened.complaints == []
    assert opened.requests == [pages[name].as_uri()]
    drawings = opened.page.locator(".drawing")
    assert drawings.count() > 0
    for index in range(drawings.count()):
        assert drawings.nth(index).locator("svg .xtick").count() > 1
    assert opened.page.evaluate("document.documentElement.dataset.theme") == (
        "dark" if dark else "light"
    )
    titles = "[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title).join()"
    assert "hare" not in opened.page.evaluate(titles)
    # Nothing but drawings and tables that scroll by themselves is wider than the screen.
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.close()


def test_pointing_at_a_box_tells_what_it_is(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["one device"])
    opened.point_at("#timeline", 0.01, 8)
    told = opened.page.locator("#tip").inner_text().split("\n")
    assert told[:2] == ["forward", f"unit 0: {UNIT}"]
    opened.point_at("#memory", 0.5, 100)
    told = opened.page.locator("#tip").inner_text().split("\n")
    assert " MiB at " in told[0]
    assert any(line.startswith("weights: 0.19") for line in told)
    opened.page.mouse.move(2, 2)
    assert not opened.page.locator("#tip").is_visible()
    assert opened.complaints == []
    opened.page.close()


def test_buttons_hide_kinds_and_show_them_again(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["pipeline"])
    page = opened.page
    button = page.locator("#timeline button[data-kind=backward]")
    colour = INSTRUCTION_STYLES[InstructionKind.BACKWARD].colour
    before = opened.painted(colour)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert opened.painted(colour) == 0
    button.click()
    assert opened.painted(colour) == before > 1000
    button = page.locator("#memory button[data-kind=saved]")
    saved = "document.querySelector('#memory .panels .tracesaved path')"
    button.click()
    page.wait_for_function(f"!{saved}")
    button.click()
    page.wait_for_function(saved)
    rows = page.locator("#timeline .ytick").count()
    page.locator("button[data-toggle=beside]").click()
    page.wait_for_function("document.querySelectorAll('#timeline .ytick').length === 4")
    assert rows > 4
    assert opened.complaints == []
    page.close()


def test_the_theme_can_be_changed_and_is_kept(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["pipeline"])
    ground = "getComputedStyle(document.body).backgroundColor"
    black, white = "#000000", "#FFFFFF"
    assert opened.page.evaluate(ground) == "rgb(255, 255, 255)"
    before = [opened.painted(black), opened.painted(white)]
    opened.page.locator("#theme").click()
    assert opened.page.evaluate(ground) == "rgb(21, 24, 29)"
    after = [opened.painted(black), opened.painted(white)]
    # Messages are black, which could not be seen on a dark ground.
    assert before[0] - after[0] > 300
    assert after[1] - before[1] > 300
    assert opened.complaints == []
    opened.page.close()


def test_a_measured_run_can_be_hidden(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["verified"])
    page = opened.page
    measured = "[...document.querySelectorAll('#timeline .ytick text')].filter(" + (
        "tick => tick.textContent === 'measured').length"
    )
    assert page.evaluate(measured) == 4
    assert page.locator("#memory .panels .tracemeasured path").count() > 0
    page.locator("button[data-toggle=measured]").click()
    page.wait_for_function(f"{measured} === 0")
    page.locator("button[data-toggle=memory-measured]").click()
    page.wait_for_function("!document.querySelector('#memory .panels .tracemeasured path')")
    assert opened.complaints == []
    page.close()


def test_zooming_in_zooms_the_memory_and_labels_more_boxes(
    browser: Any, pages: dict[str, Path]
) -> None:
    opened = Opened(browser, pages["pipeline"])
    page = opened.page
    end = "document.querySelector('#memory .panels .drawing').layout.xaxis.range[1]"
    before = page.evaluate(end)
    opened.point_at("#timeline", 0.2, 10)
    page.mouse.down()
    opened.point_at("#timeline", 0.3, 12)
    page.mouse.up()
    page.wait_for_function(f"{end} < {0.5 * before}")
    box = page.locator("#timeline .nsewdrag").first.bounding_box()
    page.mouse.dblclick(box["x"] + 50, box["y"] + 10)
    page.wait_for_function(f"Math.abs({end} - {before}) < 1e-6")
    assert opened.complaints == []
    page.close()


def test_any_of_many_ranks_can_be_chosen(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["many ranks"])
    assert opened.page.locator("#memory .panels h3").count() == 1
    opened.page.locator("select[data-choice=rank]").select_option("5")
    title = opened.page.locator("#memory .panels h3")
    assert title.inner_text().startswith("rank 5: peak")
    # The bar of a rank does the same.
    opened.point_at("#memory .peaks", 2.5 / 6, 150)
    opened.page.mouse.down()
    opened.page.mouse.up()
    opened.page.wait_for_function(
        "document.querySelector('#memory .panels h3').textContent.startsWith('rank 2: peak')"
    )
    assert opened.page.locator("select[data-choice=rank]").input_value() == "2"
    assert opened.complaints == []
    opened.page.close()


def test_all_options_of_a_unit_open_on_demand(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["one device"])
    options = opened.page.locator("#options-1")
    assert not options.is_visible()
    opened.page.locator("button[aria-controls=options-1]").click()
    assert options.is_visible()
    assert options.locator("tr.chosen").count() == 1
    opened.page.close()


def test_a_big_pipeline_opens(
    browser: Any, content: ReportContent, big_run: Timeline, tmp_path: Path
) -> None:
    plan = PipelinePlan(PipelineKind.ONE_F_ONE_B, tuple(range(4, 64, 4)), 1, 64)
    path = tmp_path / "big.html"
    path.write_text(report_html(_measured(drawn_as(content, big_run, plan))), encoding="utf-8")
    assert path.stat().st_size < 15_000_000
    opened = Opened(browser, path)
    assert opened.page.locator("#timeline .ytick").count() == 32
    assert opened.complaints == []
    opened.page.close()
