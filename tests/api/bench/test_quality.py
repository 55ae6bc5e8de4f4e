from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from remora.api.bench.best_known import write_best_known
from remora.api.bench.methods import Method
from remora.api.bench.quality import ROWS_NAME, QualityRequest, Watch, run_quality
from remora.api.bench.rows import append_row, read_rows
from remora.api.bench.task import Outcome, Task, run_task
from remora.errors import InvalidInputError, UsageError
from tests.api.bench.runs import (
    GREEDY,
    BrokenRun,
    MissingRun,
    small_suite,
    with_a_typo,
)

pytestmark = pytest.mark.usefixtures("_in_process")

(ITEM,) = small_suite().problems


def outcomes(*runs: object) -> list[Outcome]:
    task = Task(ITEM, runs, 5.0)  # type: ignore[arg-type]
    return [found for found in run_task(task) if isinstance(found, Outcome)]


def test_every_run_has_a_row_and_a_schedule_if_it_fits() -> None:
    greedy, keep_all, broken, missing = outcomes(
        GREEDY,
        dataclasses.replace(GREEDY, method=Method("keep_all")),
        BrokenRun(Method("broken"), None),
        MissingRun(Method("missing"), None),
    )
    assert greedy.row.feasible
    assert greedy.row.note == ""
    assert greedy.row.step_time_s is not None
    assert greedy.row.lower_bound_s is not None
    assert greedy.row.lower_bound_s <= greedy.row.step_time_s
    assert greedy.row.peak_bytes is not None
    assert greedy.row.peak_bytes <= ITEM.budget_bytes
    assert greedy.schedule is not None
    assert (keep_all.row.feasible, keep_all.schedule) == (False, None)
    assert "found no schedule that fits" in keep_all.row.note
    assert broken.row.note == "bug: IndexError: seven"
    assert "pip install '.[solvers]'" in missing.row.note


def test_a_problem_that_cannot_be_built_is_an_error() -> None:
    with pytest.raises(UsageError, match="gpt2_tiny"):
        list(run_task(Task(with_a_typo(ITEM), (GREEDY,), 5.0)))


def test_a_killed_bench_goes_on_where_it_was(tmp_path: Path) -> None:
    write_best_known(tmp_path / "none.json", "smoke", {})
    request = QualityRequest(
        suite=small_suite(2),
        methods=(Method("greedy"), Method("recompute_all")),
        seeds=(0,),
        time_limit_s=5.0,
        jobs=1,
        out=tmp_path / "whole",
        best_known=tmp_path / "none.json",
    )
    whole = run_quality(request)
    assert [row.key for row in whole.rows] == [
        (item.digest, method, None, 5.0)
        for item in request.suite.problems
        for method in ("greedy", "recompute_all")
    ]
    half = dataclasses.replace(request, out=tmp_path / "half")
    # The figures of a kept row are its own, also where a new run would find others.
    kept = dataclasses.replace(whole.rows[0], search_s=123.0)
    append_row(half.out / ROWS_NAME, kept)
    with (half.out / ROWS_NAME).open("a") as file:
        file.write('{"problem": "gpt2')
    with pytest.raises(InvalidInputError, match="allowed: another folder, or resume=true"):
        run_quality(half)
    seen = []
    result = run_quality(
        dataclasses.replace(half, resume=True),
        watch=Watch(lambda row, done, total: seen.append((row.key, done, total))),
    )
    assert result.rows[0] == kept
    assert [row.step_time_s for row in result.rows] == [row.step_time_s for row in whole.rows]
    assert len(seen) == 3
    assert sorted(done for _, done, _ in seen) == [2, 3, 4]
    assert {total for _, _, total in seen} == {4}
    assert "line 2 is no row" in result.notes[0]
    rows, _ = read_rows(half.out / ROWS_NAME)
    assert len(rows) == 4
