from __future__ import annotations

import math

import pytest

from remora.api.bench.summary import (
    against,
    best_times,
    joint_times,
    method_times,
    summarise,
)
from remora.api.bench.tables import problem_section, sections
from tests.api.bench.runs import row

ROWS = [
    row("greedy", 2.0),
    row("best", 1.5, seed=0),
    row("best", 1.7, seed=1),
    row("greedy", 4.0, "b", world_size=4, range=0.5),
    row("best", 4.0, "b", world_size=4, range=0.5, seed=0, best_known_s=3.2),
    row("best", 4.0, "b", world_size=4, range=0.5, seed=1, best_known_s=3.2),
    row("greedy", None, "c", note="does not fit"),
    row("best", 3.0, "c", seed=0),
    row("best", None, "c", seed=1),
]


def test_the_best_known_counts_rows_and_what_was_known_before() -> None:
    assert best_times(ROWS) == {"a": 1.5, "b": 3.2, "c": 3.0}


def test_a_method_is_held_against_the_best_known_and_the_bound() -> None:
    greedy, best = summarise(ROWS)
    assert (greedy.method, greedy.problems, greedy.infeasible) == ("greedy", 3, 1)
    assert greedy.median == pytest.approx((2.0 / 1.5 + 4.0 / 3.2) / 2)
    assert greedy.worst == greedy.p95 == pytest.approx(2.0 / 1.5)
    assert greedy.median_over_bound == 3.0
    # It is as fast as any method on b, though not as what was known before.
    assert greedy.wins == 1
    assert (best.problems, best.infeasible, best.wins) == (3, 1, 3)
    assert best.median == pytest.approx(1.7 / 1.5)


def test_the_95th_percentile_leaves_a_twentieth_out() -> None:
    rows = [row("greedy", 1.0 + i, f"p{i}", best_known_s=1.0) for i in range(40)]
    (greedy,) = summarise(rows)
    assert greedy.p95 == 38.0
    assert greedy.worst == 40.0


def test_rows_can_be_chosen() -> None:
    (greedy, _best) = summarise(ROWS, lambda one: one.world_size == 4)
    assert greedy.problems == 1
    assert greedy.median == pytest.approx(4.0 / 3.2)


def test_a_method_without_answers_has_no_figures() -> None:
    (only,) = summarise([row("greedy", None)])
    assert math.isnan(only.median)
    assert math.isnan(only.worst)
    assert only.infeasible == 1
    assert only.wins == 0


def test_seeds_count_by_their_median_and_all_need_an_answer() -> None:
    assert method_times(ROWS, "best") == {"a": pytest.approx(1.6), "b": 4.0}


def test_gains_are_told_from_both_sides() -> None:
    found = against({"a": 1.0, "b": 4.0, "c": 1.0}, {"a": 1.5, "b": 2.0, "d": 1.0}, "x")
    assert (found.both, found.faster, found.slower) == (2, 1, 1)
    assert (found.only_mine, found.only_theirs) == (1, 1)
    assert (found.best, found.worst) == (0.5, -0.5)
    assert against({"a": 1.0}, {"a": 1.0005}, "x").faster == 0


def test_single_levers_are_no_joint_answer() -> None:
    rows = [*ROWS, row("recompute_only", 1.0)]
    assert joint_times(rows)["a"] == pytest.approx(1.6)


def titles(rows: list[object]) -> list[str]:
    return [section.title for section in sections(rows)]  # type: ignore[arg-type]


def test_tables_that_say_nothing_are_left_out() -> None:
    assert titles([]) == []
    assert titles([row("best", 1.0)]) == ["Methods"]
    assert titles([row("best", 1.0), row("greedy", 1.0)]) == ["Methods", "Against greedy"]
    assert titles(list(ROWS)) == [
        "Methods",
        "By world size",
        "By range of the budget",
        "Against greedy",
    ]
    levers = [row("best", 1.0), row("offload_only", 1.25), row("pipeline_only", None)]
    joint = sections(levers)[-1]
    assert joint.title == "Joint decisions against one at a time"
    assert joint.rows[0][:5] == ("pipeline_only", "0", "0", "0", "1")
    assert joint.rows[1][:6] == ("offload_only", "1", "1", "0", "0", "+25.00 %")


def test_every_row_of_cells_fills_its_header() -> None:
    for section in [*sections(ROWS), problem_section(ROWS)]:
        assert section.rows
        assert {len(cells) for cells in section.rows} == {len(section.header)}


def test_bands_stand_in_order() -> None:
    rows = [row("best", 1.0, str(r), range=r, world_size=w) for r, w in ((0.8, 16), (0.02, 4))]
    by_size, by_range = sections(rows)[1:3]
    assert by_size.header == ("method", "4", "16")
    assert by_range.header == ("method", "to 0.1", "above 0.4")
