"""Why a unit is treated as it is, in one or two sentences."""

from __future__ import annotations

import dataclasses

import pytest

from remora.report.choice_table import choice_table
from remora.report.unit_bars import unit_bars
from remora.report.unit_choice import Alternative, Effect, UnitChoice, reason

MIB = 2**20
KEEP = Alternative("keep", "keep", 0.0, 8 * MIB, 0, 0.0)
AGAIN = Alternative("recompute", "recompute", 2e-3, MIB, 0, 0.0)
AWAY = Alternative("offload", "offload", 0.0, 0, 8 * MIB, 1e-3)


def _choice(*alternatives: Alternative, taken: str, fixed: str = "") -> UnitChoice:
    marked = tuple(dataclasses.replace(a, taken=a.family == taken) for a in alternatives)
    return UnitChoice(3, "blocks.<3>", taken, (), marked, fixed)


def _with(alternative: Alternative, more_s: float, over: int, more: int) -> Alternative:
    return dataclasses.replace(alternative, effect=Effect(more_s, over * MIB, more * MIB))


def test_what_would_not_fit_is_said_first() -> None:
    choice = _choice(_with(KEEP, -2e-3, 5, 7), AGAIN, _with(AWAY, 1e-3, -1, -1), taken="recompute")
    assert reason(choice, 0.1) == (
        "Keeping it would save 2.00 ms (2.0 %) but exceed the budget by 5.00 MiB. "
        "Offloading it would cost 1.00 ms (1.0 %) and lower the peak by 1.00 MiB."
    )


def test_the_quickest_rival_that_fits_is_told() -> None:
    choice = _choice(KEEP, _with(AGAIN, 3e-3, -9, 0), _with(AWAY, 1e-3, 2, 0), taken="keep")
    assert reason(choice, 0.1) == (
        "Recomputing it would cost 3.00 ms (3.0 %) and leave the peak as it is."
    )


def test_a_change_that_hardly_matters_is_none() -> None:
    choice = _choice(_with(KEEP, 1e-6, 1, 1), AGAIN, taken="recompute")
    assert reason(choice, 0.1) == "Keeping it would take as long but exceed the budget by 1.00 MiB."


@pytest.mark.parametrize(
    ("taken", "sentence"),
    [
        ("recompute", "Frees 7.00 MiB for 2.00 ms of compute."),
        ("offload", "Frees 8.00 MiB for 1.00 ms of copies."),
        ("keep", "To free 8.00 MiB would cost 1.00 ms of copies (offload)."),
    ],
)
def test_prices_speak_where_nothing_was_simulated(taken: str, sentence: str) -> None:
    assert reason(_choice(KEEP, AGAIN, AWAY, taken=taken), 0.1) == sentence


def test_a_unit_without_a_choice_says_so() -> None:
    fixed = _choice(KEEP, taken="keep", fixed="its forward has side effects")
    assert reason(fixed, 0.1) == "No choice: its forward has side effects."
    assert reason(_choice(KEEP, taken="keep"), 0.1) == "No choice: nothing else would free memory."


def test_the_table_marks_what_is_taken_and_escapes_names() -> None:
    html = choice_table([_choice(KEEP, _with(AGAIN, 1e-3, 4, 5), taken="keep")], 0.1)
    assert "blocks.&lt;3&gt;" in html
    assert html.count('class="pair taken"') == 1
    assert "<th>recompute</th>" in html
    assert "offload" not in html
    assert "+5.00 MiB (over budget)" in html
    assert "all 2 options" in html


def test_bars_stand_for_what_would_be_kept() -> None:
    figure = unit_bars([_choice(KEEP, AGAIN, taken="recompute")], "saved")
    assert figure is not None
    (bars,) = figure["traces"]
    assert bars["y"] == [8.0]
    assert [entry["name"] for entry in figure["legend"]] == ["is computed again"]
    assert "&lt;3&gt;" in bars["text"][0]
    assert unit_bars([], "saved") is None
