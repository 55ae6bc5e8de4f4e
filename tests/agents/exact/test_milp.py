from __future__ import annotations

import dataclasses
import functools
import math
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.agents.exact.menus.memory import MemoryRow, memory_rows
from remora.agents.exact.menus.milp import Milp, solve
from remora.agents.exact.menus.milp_model import PacedModel
from remora.agents.exact.menus.model import MenuChoices, menu_choices
from remora.agents.exact.menus.times import MenuTimes, menu_times, micro_batch_s
from remora.errors import InfeasibleError, InvalidInputError, MissingExtraError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action
from remora.simulator.compiled import simulator_of
from remora.simulator.simulate import simulate
from tests.agents.exact.brute_force import between, fastest, small_problem, unit_plans
from tests.problems import cpu_hardware, toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem

LONG_S = 60.0
PACES = ((2, 1), (1, 1), (4, 3))
HARDWARE = {"overlap": None, "inline": cpu_hardware(), "no copies": cpu_hardware("none")}


@functools.cache
def case(overlap: bool, copy_bytes_per_s: float, share: float, micro_batches: int = 1) -> Problem:
    problem = small_problem((64, 16, 48), overlap, copy_bytes_per_s, 1, micro_batches)
    return between(problem, unit_plans(problem, PACES, mixed=False), share)


@functools.cache
def any_problem(name: str, hardware: str) -> Problem:
    graph = toy_graph() if name == "toy" else zoo_graph(name)
    return full_problem(graph, 1, hardware=HARDWARE[hardware], micro_batches=(1, 3))


@functools.cache
def tables(
    name: str, hardware: str, micro_batches: int, pace: tuple[int, int]
) -> tuple[MenuChoices, MenuTimes, list[MemoryRow]]:
    choices = menu_choices(any_problem(name, hardware), micro_batches, mixed=True)
    return choices, menu_times(choices), memory_rows(choices, *pace)


@settings(max_examples=30)
@given(
    name=st.sampled_from(["toy", "gpt2_tiny", "unet_tiny", "t5_tiny"]),
    hardware=st.sampled_from(sorted(HARDWARE)),
    micro_batches=st.sampled_from([1, 3]),
    pace=st.sampled_from([(2, 1), (5, 30)]),
    seed=st.integers(0, 10_000),
)
def test_the_rows_are_the_simulator(
    name: str, hardware: str, micro_batches: int, pace: tuple[int, int], seed: int
) -> None:
    choices, times, rows = tables(name, hardware, micro_batches, pace)
    rng = random.Random(seed)
    chosen = [rng.randrange(len(menu)) for menu in choices.menus]
    schedule = choices.schedule(chosen, *pace)
    figures = simulator_of(choices.problem).figures(schedule)
    columns = choices.columns_of(chosen)
    assert max(row.level_bytes(columns) for row in rows) == figures.max_peak_bytes
    step_s = micro_batches * micro_batch_s(times, columns, *pace) + times.end_s
    assert step_s == pytest.approx(figures.step_time_s, rel=1e-9)
    assert int(times.moved_bytes[list(columns)].sum()) == max(figures.host_peak_bytes)


@given(
    hardware=st.sampled_from(["overlap", "inline"]),
    pace=st.sampled_from([(2, 1), (1, 2), (5, 30)]),
    seed=st.integers(0, 10_000),
)
def test_the_program_is_as_long_as_the_simulation(
    hardware: str, pace: tuple[int, int], seed: int
) -> None:
    choices = menu_choices(any_problem("toy", hardware), 1, mixed=True)
    times = menu_times(choices)
    rng = random.Random(seed)
    chosen = [rng.randrange(len(menu)) for menu in choices.menus]
    model = PacedModel(choices, times, *pace)
    for column in choices.columns_of(chosen):
        model.program.exactly([(column, 1.0)], 1.0)
    answer = model.program.solve(LONG_S)
    assert answer.values is not None
    assert model.chosen(answer.values) == tuple(chosen)
    figures = simulator_of(choices.problem).figures(choices.schedule(chosen, *pace))
    step_s = answer.bound * model.unit_s + times.end_s
    assert step_s == pytest.approx(figures.step_time_s, rel=1e-6)


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("copy_bytes_per_s", [2e8, 4e9])
@pytest.mark.parametrize("overlap", [True, False])
def test_the_optimum_is_that_of_brute_force(
    overlap: bool, copy_bytes_per_s: float, share: float
) -> None:
    problem = case(overlap, copy_bytes_per_s, share)
    solved = solve(problem, LONG_S, PACES, mixed=False)
    assert solved.proven
    assert solved.step_time_s == pytest.approx(
        fastest(problem, unit_plans(problem, PACES, mixed=False)), rel=1e-6
    )
    assert (solved.schedule is None) == (share < 0) == math.isinf(solved.bound_s)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_mixed_options_and_micro_batches(share: float) -> None:
    problem = case(True, 2e8, share, micro_batches=2)
    solved = solve(problem, LONG_S, PACES[:2])
    best_s = fastest(problem, unit_plans(problem, PACES[:2], mixed=True))
    assert solved.proven
    assert solved.step_time_s == pytest.approx(best_s, rel=1e-6)
    assert best_s < fastest(problem, unit_plans(problem, PACES[:2], mixed=False)) * (1 - 1e-6)


def test_fast_copies_are_used() -> None:
    solved = solve(case(True, 4e9, 0.15), LONG_S, PACES)
    assert solved.schedule is not None
    assert any(Action.OFFLOAD in option.distinct for option in solved.schedule.memory.options)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_host_memory_is_a_limit_too(share: float) -> None:
    problem = case(True, 4e9, share)
    host = dataclasses.replace(problem.hardware.host, memory_bytes=20_000)
    problem = dataclasses.replace(
        problem, hardware=dataclasses.replace(problem.hardware, host=host)
    )
    best_s = fastest(problem, unit_plans(problem, PACES, mixed=False))
    assert best_s > fastest(case(True, 4e9, share), unit_plans(problem, PACES, mixed=False))
    solved = solve(problem, LONG_S, PACES, mixed=False)
    assert solved.proven
    assert solved.step_time_s == pytest.approx(best_s, rel=1e-6)


def test_a_forbidden_plan_is_not_found_again() -> None:
    problem = case(True, 4e9, 0.15)
    choices = menu_choices(problem, 1, mixed=False)
    model = PacedModel(choices, menu_times(choices), 2, 1)
    seen = set()
    bounds = []
    for _ in range(4):
        answer = model.program.solve(LONG_S)
        assert answer.values is not None
        seen.add(model.chosen(answer.values))
        bounds.append(answer.bound)
        model.forbid(model.chosen(answer.values))
    assert len(seen) == 4
    assert bounds == pytest.approx(sorted(bounds), rel=1e-6)


def test_what_is_ended_early_is_a_bound_all_the_same() -> None:
    problem = case(True, 4e9, 0.15)
    best_s = fastest(problem, unit_plans(problem, PACES, mixed=False))
    solved = solve(problem, 1e-3, PACES, mixed=False)
    assert 0 < solved.bound_s <= best_s * (1 + 1e-6)
    assert solved.step_time_s >= best_s * (1 - 1e-6)


def test_a_budget_that_is_too_small_names_one_that_works() -> None:
    problem = dataclasses.replace(case(True, 4e9, 0.0), budget_bytes=1000)
    with pytest.raises(InfeasibleError) as error:
        Milp().propose(problem, LONG_S)
    enough = error.value.smallest_budget_bytes
    assert enough is not None
    schedule = Milp().propose(dataclasses.replace(problem, budget_bytes=enough), LONG_S)
    assert simulate(problem, schedule).max_peak_bytes <= enough


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match=r"windows is .* integers from 1"):
        Milp(windows=(2, 0))
    with pytest.raises(InvalidInputError, match="distances has 1 values; allowed: 2"):
        Milp(windows=(2, 4), distances=(1,))
    ranks = dataclasses.replace(case(True, 4e9, 0.5), world_size=4)
    with pytest.raises(InvalidInputError, match="world_size is 4 and scheduler 'milp'"):
        solve(ranks, LONG_S)
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(MissingExtraError, match="install the extra 'solvers'"):
        solve(case(True, 4e9, 0.15), LONG_S)
