"""Units in fewer bits, run: near the plain model, exact under any memory plan, gone afterwards."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.executor.compare import Outcome, gradient_distance, run_once
from remora.executor.memory.install import apply
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.precision import Precision
from remora.graph.trace import trace
from remora.schedule.menu import keep_all_schedule
from remora.schedule.schedule import PrecisionPlan, Schedule
from tests.api.small_models import make_stack
from tests.low_bit import BF16, FP8, INT8, MODEL, mixed, zoo_example
from tests.schedule.plans import random_schedule

_Case = tuple[nn.Module, tuple[torch.Tensor, ...], ModelGraph]


def stack(*precisions: Precision) -> _Case:
    model, inputs = make_stack()
    return model, inputs, trace(model, inputs, precisions=mixed(trace(model, inputs), precisions))


def run(case: _Case, schedule: Schedule | None = None) -> Outcome:
    model, inputs, graph = case
    with ExitStack() as stack:
        handle = None
        if schedule is not None:
            handle = stack.enter_context(apply(model, graph, schedule, allow_lossy=True))
        outcome = run_once(model, inputs, None, 0, handle)
    model.zero_grad(set_to_none=True)
    return outcome


@pytest.mark.parametrize(("precision", "near"), [(BF16, 0.02), (INT8, 0.06), (FP8, 0.12)])
def test_gradients_are_near_and_not_equal(precision: Precision, near: float) -> None:
    case = stack(precision)
    distance = gradient_distance(run(case), run(case, keep_all_schedule(case[2])))
    assert 0 < distance < near


@pytest.mark.parametrize("seed", range(6))
def test_recomputing_and_moving_changes_nothing_more(seed: int) -> None:
    """Whatever the memory plan, gradients are those of the same precisions with all kept."""
    case = stack(BF16, INT8, MODEL)
    kept = run(case, keep_all_schedule(case[2]))
    planned = run(case, random_schedule(case[2], seed))
    assert gradient_distance(kept, planned) == 0.0
    assert torch.equal(kept.loss, planned.loss)


@pytest.mark.parametrize("name", ["gpt2_tiny", "resnet_tiny"])
def test_models_of_the_zoo_recompute_bit_by_bit(name: str) -> None:
    example = zoo_example(name)
    graph = trace(*example, precisions=mixed(trace(*example), (BF16, INT8)))
    outcomes = []
    for schedule in (keep_all_schedule(graph), random_schedule(graph, 3)):
        twin = zoo_example(name).model
        with apply(twin, graph, schedule, allow_lossy=True) as handle:
            outcomes.append(run_once(twin, example.example_inputs, example.loss, 0, handle))
    assert gradient_distance(*outcomes) == 0.0


def test_removing_the_plan_restores_the_model() -> None:
    case = stack(BF16, INT8)
    before = run(case)
    weights = dict(case[0].named_parameters())
    run(case, keep_all_schedule(case[2]))
    after = run(case)
    assert gradient_distance(before, after) == 0.0
    assert all(p is weights[name] for name, p in case[0].named_parameters())
    assert not any("forward" in vars(module) for module in case[0].modules())


def test_a_schedule_of_another_precision_is_refused() -> None:
    model, _, graph = stack(BF16)
    schedule = dataclasses.replace(keep_all_schedule(graph), precision=PrecisionPlan())
    message = "precision.units is model for all units, and the graph was traced with bf16"
    with pytest.raises(InvalidInputError, match=message):
        apply(model, graph, schedule)
