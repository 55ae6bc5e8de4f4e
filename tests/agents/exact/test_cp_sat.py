from __future__ import annotations

import dataclasses
import functools
import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.agents.exact.menus.cp_sat import CpSat, solve
from remora.agents.exact.menus.cp_sat_model import PipelineModel
from remora.agents.exact.menus.cp_sat_shapes import cut_pipelines
from remora.agents.exact.menus.cp_sat_tables import RankTable, rank_tables
from remora.agents.exact.menus.model import menu_choices
from remora.agents.exact.menus.times import menu_times
from remora.errors import InfeasibleError, InvalidInputError, MissingExtraError
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan
from remora.simulator.compiled import simulator_of
from remora.simulator.simulate import simulate
from tests.agents.exact.brute_force import (
    between,
    fastest,
    joint_plans,
    pipeline_plans,
    pipelines,
    small_problem,
)
from tests.problems import toy_graph
from tests.schedule.full_plans import full_problem

LONG_S = 60.0


@functools.cache
def case(
    overlap: bool, ranks: int, micro_batches: int, share: float, copy_bytes_per_s: float = 4e9
) -> Problem:
    problem = small_problem((64, 16), overlap, copy_bytes_per_s, ranks, micro_batches)
    return between(problem, joint_plans(problem), share)


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.1, 0.3])
@pytest.mark.parametrize(("ranks", "micro_batches"), [(1, 1), (1, 2), (2, 2), (2, 4)])
@pytest.mark.parametrize("overlap", [True, False])
def test_the_optimum_is_that_of_brute_force(
    overlap: bool, ranks: int, micro_batches: int, share: float
) -> None:
    problem = case(overlap, ranks, micro_batches, share)
    solved = solve(problem, LONG_S)
    assert solved.proven
    assert solved.step_time_s == pytest.approx(fastest(problem, joint_plans(problem)), rel=1e-6)
    assert (solved.schedule is None) == (share < 0) == math.isinf(solved.bound_s)


@functools.cache
def one_of_each_kind() -> tuple[PipelinePlan, ...]:
    """Of every kind of pipeline the middle way to cut it."""
    found: dict[PipelineKind, list[PipelinePlan]] = {}
    for pipeline in pipelines(small_problem((64, 16, 48), True, 4e9, 2, 4)):
        found.setdefault(pipeline.kind, []).append(pipeline)
    return tuple(cuts[len(cuts) // 2] for cuts in found.values())


@pytest.mark.parametrize("pipeline", one_of_each_kind(), ids=lambda p: p.kind.value)
@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("overlap", [True, False])
def test_every_kind_of_pipeline(overlap: bool, share: float, pipeline: PipelinePlan) -> None:
    problem = small_problem((64, 16, 48), overlap, 4e9, 2, 4, optimizer="adamw")
    problem = between(problem, pipeline_plans(problem, pipeline), share)
    choices = menu_choices(problem, 4, mixed=False)
    tables = rank_tables(choices, pipeline, (2, 1), 10_000)
    assert tables is not None
    model = PipelineModel(choices, menu_times(choices), pipeline, (2, 1))
    model.add_tables(tables)
    found = model.solve(math.inf, LONG_S)
    assert found.ended
    assert found.chosen is not None
    timeline = simulate(problem, choices.schedule(found.chosen, 2, 1, pipeline))
    assert timeline.max_peak_bytes <= problem.budget_bytes
    best_s = fastest(problem, pipeline_plans(problem, pipeline))
    assert timeline.step_time_s == pytest.approx(best_s, rel=1e-6)
    assert found.bound_s == pytest.approx(best_s, rel=1e-6)


@functools.cache
def wide() -> tuple[Problem, tuple[PipelinePlan, ...]]:
    problem = full_problem(toy_graph((64,) * 7), 4, micro_batches=(1, 4))
    return problem, tuple(pipelines(problem))


@given(pace=st.sampled_from([(2, 1), (8, 1), (3, 4)]), seed=st.integers(0, 10_000))
def test_the_program_is_as_long_as_the_simulation(pace: tuple[int, int], seed: int) -> None:
    problem, every = wide()
    rng = random.Random(seed)
    kind = rng.choice(sorted({pipeline.kind for pipeline in every}))
    pipeline = rng.choice([pipeline for pipeline in every if pipeline.kind is kind])
    choices = menu_choices(problem, pipeline.micro_batches, mixed=True)
    chosen = tuple(rng.randrange(len(menu)) for menu in choices.menus)
    model = PipelineModel(choices, menu_times(choices), pipeline, pace)
    model.add_tables([RankTable(tuple(range(len(chosen))), (chosen,))])
    found = model.solve(math.inf, LONG_S)
    assert found.chosen == chosen
    figures = simulator_of(problem).figures(choices.schedule(chosen, *pace, pipeline))
    assert found.bound_s == pytest.approx(figures.step_time_s, rel=1e-6)


def test_copies_of_another_stage_are_not_waited_for() -> None:
    problem = small_problem((64, 16, 48), True, 2e8, 2, 4)
    pipeline = PipelinePlan(PipelineKind.ZERO_BUBBLE, (2, 3, 4), 2, 4)
    choices = menu_choices(problem, 4, mixed=False)
    times = menu_times(choices)
    keep = [0] * len(choices.menus)
    for unit, menu in enumerate(choices.menus):
        for index in range(1, len(menu)):
            chosen = (*keep[:unit], index, *keep[unit + 1 :])
            model = PipelineModel(choices, times, pipeline, (8, 1))
            model.add_tables([RankTable(tuple(range(len(keep))), (chosen,))])
            figures = simulator_of(problem).figures(choices.schedule(chosen, 8, 1, pipeline))
            found = model.solve(math.inf, LONG_S)
            assert found.bound_s == pytest.approx(figures.step_time_s, rel=1e-6)


def test_mixed_options_and_replicas() -> None:
    problem = small_problem((16,), True, 4e9, 4, 2)
    problem = between(problem, joint_plans(problem, mixed=True), 0.1)
    solved = solve(problem, LONG_S, CpSat(mixed=True))
    assert solved.proven
    assert solved.step_time_s == pytest.approx(
        fastest(problem, joint_plans(problem, mixed=True)), rel=1e-6
    )


def test_nothing_is_faster_than_keeping_everything() -> None:
    problem = case(True, 2, 4, 0.3)
    kept = dict((plan, seconds) for seconds, plan in cut_pipelines(problem, 100).plans)
    assert sorted(kept.values()) == list(kept.values())
    for pipeline in pipelines(problem):
        plans = pipeline_plans(problem, pipeline)
        unlimited = dataclasses.replace(problem, budget_bytes=2**40)
        assert fastest(unlimited, plans) == pytest.approx(kept[pipeline], rel=1e-12)


@pytest.mark.parametrize("settings", [CpSat(most_cuts=1), CpSat(most_options=2)])
def test_a_search_in_part_gives_a_bound_of_the_whole(settings: CpSat) -> None:
    problem = case(True, 2, 4, 0.1)
    best_s = fastest(problem, joint_plans(problem))
    solved = solve(problem, LONG_S, settings)
    assert solved.bound_s <= best_s * (1 + 1e-6)
    assert solved.step_time_s >= best_s * (1 - 1e-6)


def test_no_time_gives_a_bound_all_the_same() -> None:
    problem = case(True, 2, 4, 0.1)
    solved = solve(problem, 1e-3)
    assert 0 < solved.bound_s <= fastest(problem, joint_plans(problem))


def test_a_budget_that_is_too_small_names_one_that_works() -> None:
    problem = dataclasses.replace(case(True, 2, 2, 0.0), budget_bytes=1000)
    with pytest.raises(InfeasibleError) as error:
        CpSat().propose(problem, LONG_S)
    enough = error.value.smallest_budget_bytes
    assert enough is not None
    schedule = CpSat().propose(dataclasses.replace(problem, budget_bytes=enough), LONG_S)
    assert simulate(problem, schedule).max_peak_bytes <= enough


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="most_cuts is 0; allowed: 1 or more"):
        CpSat(most_cuts=0)
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    with pytest.raises(MissingExtraError, match="ortools"):
        solve(case(True, 2, 4, 0.1), LONG_S)
