"""The closed loop where units may compute in fewer bits, on runs that are made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from remora.api.closed_loop import LoopRequest, run_loop
from remora.api.model_source import ModelSource
from remora.api.planning import known_hardware, state_variants
from remora.api.request import Request
from remora.api.variants import traced_variants
from remora.cost_models.dataset.dataset import read_dataset
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Measurement, Verification
from remora.zoo import Example
from tests.api.small_models import make_stack
from tests.problems import cpu_hardware

SOURCE = ModelSource("custom", "tests.api.small_models:make_stack")


@pytest.fixture(scope="module")
def request_() -> Request:
    rates = {"float32": 1e8, "bfloat16": 2e8}
    return Request(
        memory="200%",
        hardware=dataclasses.replace(cpu_hardware(), flops_per_s=rates),
        cost_model="gnn",
        agent="greedy",
        time_limit_s=60.0,
        precisions=("bf16",),
    )


@pytest.fixture(scope="module")
def problem(request_: Request) -> Problem:
    example = Example(*make_stack())
    traced = traced_variants(example, request_, known_hardware(request_))
    return state_variants(traced, request_)


def _ran(estimate: Estimate, factor: float) -> Verification:
    step_s, peak = factor * estimate.step_time_s, estimate.peak_memory_bytes
    run = Measurement(step_s, (step_s,), peak, "made up")
    return Verification(*(False,) * 8, "", 0.0, run)


def test_the_loop_measures_and_keeps_what_computes_in_fewer_bits(
    problem: Problem, request_: Request, tmp_path: Path
) -> None:
    assert problem.variants
    ran: list[Schedule] = []

    def verify(schedule: Schedule, estimate: Estimate) -> Verification:
        ran.append(schedule)
        return _ran(estimate, 1.0)

    # More than the pool has, so that every graph has its turn.
    result = run_loop(problem, request_, LoopRequest(2, 20, tmp_path), SOURCE, verify)
    assert ran[0].precision.units
    assert {bool(schedule.precision.units) for schedule in ran} == {False, True}
    assert result.estimate.peak_bound_bytes <= problem.budget_bytes
    assert len(result.shards) == len({schedule.graph_hash for schedule in ran})
    dataset = read_dataset(tmp_path)
    assert not dataset.faults
    assert {run.graph.content_hash for run in dataset.runs} == {one.graph_hash for one in ran}
    assert sum(len(run.steps) for run in dataset.runs) == len(ran)
