from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest

from remora.agents.evaluation import Evaluator, score_of, uses_host
from remora.agents.exact.partition.scheduler import PartitionPlanner
from remora.agents.heuristics.space import Space
from remora.errors import InfeasibleError, InvalidInputError, TimeLimitError
from remora.schedule.cuts import standard_pipeline
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import PipelineKind
from remora.schedule.validate import validate
from remora.simulator.floor import floor_peak_bytes
from remora.simulator.simulate import simulate
from tests.agents.budgets import uneven_problem
from tests.pipelines import gpu_hardware
from tests.problems import table, toy_graph

LONG_S = 120.0
HIDDEN = (512, 16, 256, 32, 128, 64, 48, 80)


@functools.lru_cache(maxsize=16)
def pipeline_problem(share: float, ranks: int = 2, batch: int = 512) -> Problem:
    """An uneven chain at several sizes of micro-batches; 0 is the floor's memory, 1 keep-all's."""
    graphs = {count: toy_graph(HIDDEN, batch // count) for count in (1, 4, 8)}
    problem = Problem(
        graphs=graphs,
        costs={n: table(g, copy_bytes_per_s=1e9, time_scale=20) for n, g in graphs.items()},
        hardware=gpu_hardware(ranks),
        optimizer=OPTIMIZERS["adamw"],
        budget_bytes=2**40,
        world_size=ranks,
    )
    keep = keep_all_schedule(problem.graph, standard_pipeline(problem))
    least, most = floor_peak_bytes(problem), simulate(problem, keep).max_peak_bytes
    return dataclasses.replace(problem, budget_bytes=int(least + share * (most - least)))


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
def test_plans_fit_and_beat_balanced_stages(share: float, ranks: int) -> None:
    problem = pipeline_problem(share, ranks)
    schedule = PartitionPlanner().propose(problem, LONG_S)
    validate(problem, schedule)
    timeline = simulate(problem, schedule)
    assert timeline.max_peak_bytes <= problem.budget_bytes
    space = Space(problem)
    again = space.build([space.recompute(unit) for unit in range(space.num_units)])
    for rival in (space.keep_all, again, space.floor):
        score = score_of(problem, rival)
        if score.feasible:
            assert timeline.step_time_s <= score.step_time_s * (1 + 1e-9)


@pytest.mark.parametrize("kind", [k.value for k in PipelineKind if k is not PipelineKind.NONE])
def test_one_kind_can_be_asked_for(kind: str) -> None:
    problem = pipeline_problem(1.0)
    schedule = PartitionPlanner(kind=kind).propose(problem, LONG_S)
    assert schedule.pipeline.kind == kind
    best = PartitionPlanner().propose(problem, LONG_S)
    assert score_of(problem, best).step_time_s <= score_of(problem, schedule).step_time_s


def test_kinds_that_are_unknown_or_not_allowed_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"'2f2b'.*1f1b"):
        PartitionPlanner(kind="2f2b")
    with pytest.raises(InvalidInputError, match=r"'1f1b'.*allowed: none"):
        PartitionPlanner(kind="1f1b").propose(uneven_problem(1.0), LONG_S)
    with pytest.raises(InvalidInputError, match="slots is 0"):
        PartitionPlanner(slots=0)


def test_a_fixed_number_of_micro_batches_is_kept() -> None:
    problem = dataclasses.replace(pipeline_problem(1.0), budget_bytes=2**40, micro_batches=4)
    assert PartitionPlanner().propose(problem, LONG_S).pipeline.micro_batches == 4


@pytest.mark.parametrize("kind", [None, "1f1b", "zero_bubble"])
def test_the_smallest_budget_named_works_for_several_ranks(kind: str | None) -> None:
    impossible = dataclasses.replace(pipeline_problem(0.0), budget_bytes=1000)
    planner = PartitionPlanner(kind=kind)
    with pytest.raises(InfeasibleError) as caught:
        planner.propose(impossible, LONG_S)
    enough = caught.value.smallest_budget_bytes
    assert enough is not None
    problem = dataclasses.replace(impossible, budget_bytes=enough)
    schedule = planner.propose(problem, LONG_S)
    assert simulate(problem, schedule).max_peak_bytes <= enough
    assert kind is None or schedule.pipeline.kind == kind


def test_the_host_is_left_alone_where_it_has_no_room() -> None:
    problem = pipeline_problem(0.2)
    host = dataclasses.replace(problem.hardware.host, memory_bytes=1)
    hardware = dataclasses.replace(problem.hardware, host=host)
    schedule = PartitionPlanner().propose(dataclasses.replace(problem, hardware=hardware), LONG_S)
    assert not uses_host(schedule)


def test_short_of_time_it_answers_with_what_it_has() -> None:
    roomy = dataclasses.replace(pipeline_problem(1.0), budget_bytes=2**40)
    assert PartitionPlanner().propose(roomy, 1e-6).pipeline.num_ranks == 2
    with pytest.raises(TimeLimitError):
        PartitionPlanner().propose(pipeline_problem(0.1, 4), 1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6])
def test_on_one_device_hardly_any_choice_of_options_is_faster(share: float) -> None:
    problem = uneven_problem(share, host_pool="none")
    space = Space(problem)
    evaluator = Evaluator(problem, LONG_S)
    evaluator.score_all([space.build(plan) for plan in itertools.product(*space.menus)])
    found = score_of(problem, PartitionPlanner().propose(problem, LONG_S))
    if evaluator.best is not None:
        assert found.step_time_s <= evaluator.score(evaluator.best).step_time_s * 1.03


@pytest.mark.slow
def test_the_example_of_the_documentation() -> None:
    from examples.pipeline_on_paper import state_problem

    problem = dataclasses.replace(state_problem(), budget_bytes=900 * 2**20)
    schedule = PartitionPlanner().propose(problem, LONG_S)
    validate(problem, schedule)
    assert simulate(problem, schedule).max_peak_bytes <= problem.budget_bytes
