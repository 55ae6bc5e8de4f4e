"""The page of a budget sweep."""

from __future__ import annotations

import dataclasses

import pytest

from remora.report.content import ReportContent
from remora.report.front_page import front_html
from tests.report.contents import drawn_data


@pytest.fixture
def sweep(content: ReportContent) -> list[ReportContent]:
    kept_s = content.keep_all_step_time_s
    return [
        dataclasses.replace(
            content,
            budget_bytes=budget,
            lower_bound_s=kept_s,
            keep_all_peak_bytes=4 * 2**30,
            estimate=dataclasses.replace(content.estimate, step_time_s=times * kept_s),
        )
        for budget, times in ((2**30, 1.5), (2 * 2**30, 1.04), (4 * 2**30, 1.0))
    ]


def test_the_front_has_a_point_for_every_budget(sweep: list[ReportContent]) -> None:
    bound, front = drawn_data(front_html(sweep))["plain"]["front"]["traces"]
    assert front["x"] == [1.0, 2.0, 4.0]
    assert front["y"][0] / front["y"][2] == pytest.approx(1.5, rel=1e-4)
    assert bound["y"] == pytest.approx([front["y"][2]] * 3)
    assert "(50.0 % more than keeping all)" in front["text"][0]


def test_the_page_says_what_little_memory_costs(sweep: list[ReportContent]) -> None:
    page = front_html(sweep)
    assert "Least memory for 5 % more step time" in page
    assert "2.00 GiB" in page
    assert "50% less than keeping all" in page


def test_a_budget_that_nothing_fits_has_no_bound(sweep: list[ReportContent]) -> None:
    tight = dataclasses.replace(sweep[0], lower_bound_s=float("inf"))
    bound, _ = drawn_data(front_html([tight, *sweep[1:]]))["plain"]["front"]["traces"]
    assert bound["y"][0] is None
