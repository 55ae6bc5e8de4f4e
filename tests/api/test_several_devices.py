from __future__ import annotations

import dataclasses

import pytest

from remora.api.budget import Budget, BudgetKind
from remora.api.plan import Plan
from remora.api.planning import optimize
from remora.api.problem import with_budget
from remora.errors import InvalidInputError
from remora.graph.batch import with_batch
from remora.schedule.cuts import standard_pipeline
from remora.schedule.menu import keep_all_schedule
from remora.schedule.schedule import PipelineKind
from remora.simulator.floor import floor_schedule
from remora.simulator.simulate import simulate
from tests.api.small_models import BATCH, make_stack


def plan_for(memory: str, world_size: int = 2, micro_batches: int | None = None) -> Plan:
    model, inputs = make_stack()
    # Activations weigh more than weights, so that the ends of the range are apart.
    return optimize(
        model,
        with_batch(inputs, 8 * BATCH),
        memory,
        hardware="4xa100",
        world_size=world_size,
        micro_batches=micro_batches,
        agent="greedy",
    )


def test_a_plan_for_two_devices_fits_every_one() -> None:
    plan = plan_for("range:0.5")
    peaks = plan.estimate.peak_by_rank_bytes
    assert len(peaks) == plan.schedule.pipeline.num_ranks
    assert max(peaks) == plan.estimate.peak_memory_bytes <= plan.budget_bytes
    assert plan.lower_bound_s <= plan.estimate.step_time_s
    assert plan.keep_all_timeline.max_peak_bytes > plan.budget_bytes


def test_the_ends_of_the_range_are_peaks_of_the_standard_pipeline() -> None:
    plan = plan_for("range:1")
    problem = plan.problem
    pipeline = standard_pipeline(problem)
    assert pipeline.kind is PipelineKind.ONE_F_ONE_B
    assert pipeline.micro_batches == 8
    keep_all = simulate(problem, keep_all_schedule(problem.graph, pipeline))
    assert plan.budget_bytes == keep_all.max_peak_bytes
    low = plan_for("range:0").budget_bytes
    assert low == simulate(problem, floor_schedule(problem, pipeline)).max_peak_bytes
    assert low < plan_for("range:0.5").budget_bytes < plan.budget_bytes
    half = with_budget(problem, Budget(BudgetKind.SHARE, 0.5))
    assert half.budget_bytes == round(plan.budget_bytes / 2)


def test_a_fixed_number_of_micro_batches_is_kept() -> None:
    plan = plan_for("range:0.5", micro_batches=4)
    assert sorted(plan.problem.graphs) == [1, 4]
    assert plan.schedule.pipeline.micro_batches == 4
    one_device = plan_for("range:0.5", world_size=1, micro_batches=2)
    assert one_device.schedule.pipeline.micro_batches == 2


def test_a_pipeline_needs_a_process_for_every_rank() -> None:
    plan = plan_for("range:0.5")
    model, inputs = make_stack()
    with pytest.raises(InvalidInputError, match="the schedule is for 2 devices"):
        plan.apply(model)
    with pytest.raises(InvalidInputError, match="allowed in this process: one device"):
        plan.verify(model, inputs)
    alone = dataclasses.replace(
        plan.schedule, pipeline=keep_all_schedule(plan.problem.graph).pipeline
    )
    with pytest.raises(InvalidInputError, match="the schedule is for 2 devices"):
        dataclasses.replace(plan, schedule=alone).apply(model)


def test_ranges_need_the_pipeline_that_they_refer_to() -> None:
    with pytest.raises(InvalidInputError, match="world_size is 64 and the model has"):
        plan_for("range:0.5", world_size=64)
    with pytest.raises(InvalidInputError, match="micro_batches is 3; allowed: divisors"):
        plan_for("range:0.5", micro_batches=3)
    with pytest.raises(InvalidInputError, match="numbers of micro-batches are 2; allowed"):
        plan_for("range:0.5", world_size=4, micro_batches=2)
    # Bytes refer to nothing, and replicas of a shorter pipeline are plans too.
    assert plan_for("1GiB", world_size=64).estimate.peak_memory_bytes <= 2**30


@pytest.mark.parametrize(("world_size", "moves"), [(1, False), (2, True)])
def test_the_state_moves_by_default_where_a_plan_is_not_run_here(
    world_size: int, moves: bool
) -> None:
    model, inputs = make_stack()
    plan = optimize(
        model, inputs, "1GiB", hardware="4xa100", world_size=world_size, agent="keep_all"
    )
    assert plan.problem.state_on_device is not moves
    asked = optimize(
        model,
        inputs,
        "1GiB",
        hardware="4xa100",
        world_size=world_size,
        agent="keep_all",
        move_state=not moves,
    )
    assert asked.problem.state_on_device is moves
