from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from remora.agents.registry import SCHEDULERS
from remora.api.bench.best_known import BestKnown, is_better, read_best_known, write_best_known
from remora.api.bench.build import build_problem, problem_hash
from remora.api.bench.compact import compact_schedule, full_schedule
from remora.api.bench.methods import read_methods
from remora.api.bench.quality import QualityRequest, run_quality
from remora.api.bench.task import KnownAnswer, Opened, Task, run_task
from remora.cli.bench_quality import quality_request
from remora.cli.compose import compose_config
from remora.errors import FileFormatError
from remora.schedule.menu import keep_all_schedule
from tests.api.bench.runs import GREEDY, RECOMPUTE_ALL, small_suite

SUITE = small_suite()
(ITEM,) = SUITE.problems


pytestmark = pytest.mark.usefixtures("_in_process")


def request(folder: Path, methods: list[str], item: object = ITEM) -> QualityRequest:
    return QualityRequest(
        suite=dataclasses.replace(SUITE, problems=(item,)),  # type: ignore[arg-type]
        methods=read_methods(methods),
        seeds=(0,),
        time_limit_s=5.0,
        jobs=1,
        out=folder / "-".join(methods),
        update_best_known=True,
        best_known=folder / "known.json",
        command="remora bench quality",
    )


def known(folder: Path) -> BestKnown:
    return read_best_known(folder / "known.json")[ITEM.name]


def test_a_better_answer_replaces_and_a_worse_one_does_not(tmp_path: Path) -> None:
    run_quality(request(tmp_path, ["recompute_all"]))
    first = known(tmp_path)
    assert first.method == "recompute_all"
    run_quality(request(tmp_path, ["greedy"]))
    second = known(tmp_path)
    assert second.method == "greedy"
    assert second.step_time_s < first.step_time_s
    before = (tmp_path / "known.json").read_bytes()
    result = run_quality(request(tmp_path, ["recompute_all", "floor"]))
    assert (tmp_path / "known.json").read_bytes() == before
    assert {row.best_known_s for row in result.rows} == {second.step_time_s}
    assert result.notes == ()


def test_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    write_best_known(tmp_path / "known.json", "smoke", {})
    before = (tmp_path / "known.json").read_bytes()
    asked = dataclasses.replace(request(tmp_path, ["greedy"]), update_best_known=False)
    run_quality(asked)
    assert (tmp_path / "known.json").read_bytes() == before


def test_a_problem_that_changed_drops_its_answer_with_a_sentence(tmp_path: Path) -> None:
    run_quality(request(tmp_path, ["greedy"]))
    wider = dataclasses.replace(ITEM, budget_bytes=ITEM.budget_bytes + 2**20)
    result = run_quality(request(tmp_path, ["recompute_all"], wider))
    (row,) = result.rows
    assert row.best_known_s is None
    (note,) = result.notes
    assert note.endswith("is for another problem: it has changed since")
    # What does not hold is replaced by anything that does.
    assert known(tmp_path).method == "recompute_all"
    assert known(tmp_path).problem_hash == row.problem_hash


def test_a_known_answer_is_simulated_again() -> None:
    problem = build_problem(ITEM)
    found = problem_hash(problem)

    def opened(answer: KnownAnswer | None) -> Opened:
        first = next(iter(run_task(Task(ITEM, (GREEDY,), 5.0, answer))))
        assert isinstance(first, Opened)
        return first

    assert opened(None).known_fault == ""
    too_large = KnownAnswer(found, compact_schedule(keep_all_schedule(problem.graph)))
    assert opened(too_large).known_s is None
    assert "no longer fits its budget" in opened(too_large).known_fault
    schedule = GREEDY.create().propose(problem, 5.0)
    good = KnownAnswer(found, compact_schedule(schedule))
    assert opened(good).known_s is not None
    assert opened(good).known_fault == ""
    garbled = KnownAnswer(found, {**good.schedule, "memory": {"options": []}})
    assert "is not valid" in opened(garbled).known_fault


def test_the_hash_follows_everything_that_is_given() -> None:
    problem = build_problem(ITEM)
    changed = [
        dataclasses.replace(problem, budget_bytes=problem.budget_bytes + 1),
        dataclasses.replace(problem, micro_batches=1),
        dataclasses.replace(problem, world_size=2),
        dataclasses.replace(
            problem, hardware=dataclasses.replace(problem.hardware, kernel_launch_s=1.0)
        ),
        build_problem(dataclasses.replace(ITEM, values={"batch": 4})),
        build_problem(dataclasses.replace(ITEM, optimizer="sgd")),
    ]
    hashes = [problem_hash(one) for one in (problem, *changed)]
    assert len(set(hashes)) == len(hashes)
    assert problem_hash(build_problem(ITEM)) == hashes[0]


def test_compact_schedules_come_back_whole() -> None:
    problem = build_problem(ITEM)
    for run in (GREEDY, RECOMPUTE_ALL):
        schedule = run.create().propose(problem, 5.0)
        compact = json.loads(json.dumps(compact_schedule(schedule)))
        assert full_schedule(compact, problem.graph) == schedule
        memory = compact["memory"]
        for options in ([], ["k"] * len(problem.graph.units), None):
            with pytest.raises(FileFormatError, match="compact schedule lacks or garbles"):
                full_schedule({**compact, "memory": {**memory, "options": options}}, problem.graph)


def test_files_are_whole_and_trusted_only_as_data(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    assert read_best_known(path) == {}
    answer = BestKnown("h", 1.0, 2, "best", 0, 10.0, "remora", "2026-11-24", {"a": "1"}, {"x": 1})
    write_best_known(path, "smoke", {"b": answer, "a": answer})
    assert list(read_best_known(path)) == ["a", "b"]
    assert read_best_known(path)["a"] == answer
    text = path.read_text()
    for wrong, message in (
        (text[:-20], "cut short"),
        (text.replace('"version": 1', '"version": 9'), "version 9"),
        (text.replace('"x"', '"_target_"'), "_target_"),
        (text.replace('"date"', '"day"'), "the answer to 'a' lacks or garbles a field"),
        ('{"version": 1}', "has no answers"),
    ):
        path.write_text(wrong)
        with pytest.raises(FileFormatError, match=message):
            read_best_known(path)


def test_rounding_is_no_progress() -> None:
    assert is_better(1.0, None)
    assert is_better(0.99, 1.0)
    assert not is_better(1.0 - 1e-12, 1.0)


def test_updating_has_methods_and_seeds_of_its_own() -> None:
    plain = quality_request(compose_config("bench_quality", ["out=x"]))
    assert [method.name for method in plain.methods] == ["greedy", "best"]
    assert plain.seeds == (0,)
    update = quality_request(compose_config("bench_quality", ["out=x", "update_best_known=true"]))
    assert [method.name for method in update.methods] == ["best", "annealing"]
    assert update.seeds == (0, 1)
    assert {method.name for method in update.methods} <= set(SCHEDULERS)
