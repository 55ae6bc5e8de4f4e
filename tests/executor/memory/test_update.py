"""Another plan in the place of one that runs: training goes on as if nothing had happened."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.executor.memory.install import Handle, apply
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group, Schedule, StatePlan
from tests.executor.memory.plans import random_schedule, schedule
from tests.executor.memory.toys import chain
from tests.executor.state.plans import HOST_GRADIENTS, streaming
from tests.problems import cpu_hardware, problem_of


@dataclasses.dataclass(frozen=True)
class Plan:
    schedule: Schedule
    problem: Problem


def train(
    model: nn.Module,
    inputs: tuple[Any, ...],
    optimizer: torch.optim.Optimizer,
    steps: int,
    seed: int,
) -> list[Tensor]:
    """Losses of some steps."""
    losses = []
    for step in range(steps):
        torch.manual_seed(seed + step)
        loss = model(*inputs).square().sum()
        loss.backward()
        losses.append(loss.detach())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return losses


def adam(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=1e-2)


def with_state(plan: Schedule, state: StatePlan) -> Schedule:
    return dataclasses.replace(plan, state=state)


@pytest.mark.parametrize("placed", ["device", "host", "streamed"])
@pytest.mark.parametrize("seed", [0, 1])
def test_training_goes_on_bit_by_bit(placed: str, seed: int) -> None:
    model, inputs, graph = chain(4)
    plain = copy.deepcopy(model)
    state = {
        "device": StatePlan(),
        "host": HOST_GRADIENTS,
        "streamed": streaming(graph, (0, 2)),
    }[placed]
    problem = problem_of(graph)
    plans = [with_state(random_schedule(graph, 10 * seed + i), state) for i in range(2)]
    plans += [with_state(schedule(graph), state), plans[0]]
    handle = apply(model, graph, plans[0], problem.hardware)
    optimizer, reference = handle.make_optimizer(adam), adam(plain.parameters())
    for number, plan in enumerate(plans):
        handle.update(Plan(plan, problem))
        found = train(model, inputs, optimizer, 2, 7 * number)
        expected = train(plain, inputs, reference, 2, 7 * number)
        assert all(map(torch.equal, found, expected))
    handle.remove()
    for parameter, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(parameter, other)
    assert all("forward" not in vars(module) for module in model.modules())


def recomputed(handle_of: Any) -> tuple[Handle, Any, tuple[Any, ...], Problem]:
    model, inputs, graph = handle_of
    plan = schedule(graph, groups=(Group(0, 2),))
    return apply(model, graph, plan), model, inputs, problem_of(graph)


def test_the_new_plan_takes_effect() -> None:
    handle, model, inputs, problem = recomputed(chain(3))
    model(*inputs).sum().backward()
    assert model.calls() == [2, 2, 1]
    model.reset()
    handle.update(Plan(schedule(problem.graph, {2: Action.RECOMPUTE}), problem))
    model(*inputs).sum().backward()
    assert model.calls() == [1, 1, 2]


def test_what_cannot_be_exchanged_leaves_the_present_plan_in_effect() -> None:
    handle, model, inputs, problem = recomputed(chain(3))
    elsewhere = with_state(schedule(problem.graph), HOST_GRADIENTS)
    with pytest.raises(InvalidInputError, match="allowed while a plan runs"):
        handle.update(Plan(elsewhere, problem))
    other = dataclasses.replace(schedule(problem.graph), graph_hash="0")
    with pytest.raises(InvalidInputError, match="graph_hash is '0'"):
        handle.update(Plan(other, problem))
    no_pool = dataclasses.replace(problem, hardware=cpu_hardware("none"))
    with pytest.raises(InvalidInputError, match="the schedule uses the host"):
        handle.update(Plan(schedule(problem.graph, {1: Action.OFFLOAD}), no_pool))
    model(*inputs).sum().backward()
    assert model.calls() == [2, 2, 1]


def test_not_in_the_middle_of_a_step_and_not_after_the_end() -> None:
    handle, model, inputs, problem = recomputed(chain(3))
    plan = Plan(schedule(problem.graph), problem)
    hook = model.blocks[1].register_forward_pre_hook(lambda module, args: handle.update(plan))
    with pytest.raises(RuntimeError, match="middle of a forward"):
        model(*inputs)
    hook.remove()
    handle.remove()
    with pytest.raises(RuntimeError, match="was removed"):
        handle.update(plan)
