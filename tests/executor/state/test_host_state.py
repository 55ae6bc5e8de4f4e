"""Weights, gradients and optimizer on the host: training as without a plan, bit by bit."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.executor.memory.install import apply
from remora.graph.trace import trace
from remora.schedule.schedule import Action, Placement, StatePlan
from tests.executor.memory.loops import PLANS, batches, make_model, plan_of
from tests.executor.memory.plans import random_schedule, schedule
from tests.executor.memory.toys import Shared, chain
from tests.executor.state.plans import (
    HOST_GRADIENTS,
    HOST_STEP,
    OPTIMIZERS,
    random_state,
    streaming,
    train_plain,
    train_planned,
    unequal,
    with_state,
)
from tests.problems import cpu_hardware


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_on_the_host_trains_alike(optimizer: str) -> None:
    model, inputs, graph = chain(3)
    plain = train_plain(model, inputs, optimizer)
    for state in (HOST_STEP, HOST_GRADIENTS, streaming(graph)):
        plan = with_state(schedule(graph), state)
        planned, handle = train_planned(model, inputs, graph, plan, optimizer)
        assert unequal(plain, planned) == []
        assert handle.host_peak_bytes > 0
        assert handle.host_bytes == 0


@pytest.mark.parametrize("name", PLANS)
def test_state_on_the_host_goes_with_every_memory_plan(name: str) -> None:
    model, graph = make_model()
    plain = train_plain(model, batches(1))
    for seed in range(4):
        plan = with_state(plan_of(graph, name), random_state(graph, seed))
        planned, _ = train_planned(model, batches(1), graph, plan)
        assert unequal(plain, planned) == [], plan.state


@pytest.mark.parametrize("seed", range(8))
def test_random_plans_train_alike(seed: int) -> None:
    model, inputs, graph = chain(5)
    plain = train_plain(model, inputs, backwards=2)
    plan = with_state(random_schedule(graph, seed), random_state(graph, seed))
    planned, _ = train_planned(model, inputs, graph, plan, backwards=2)
    assert unequal(plain, planned) == [], plan.state


class Tied(nn.Module):
    """The first and the last layer share their weight; one is frozen, one used three times."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.shared = Shared(width)
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.last = nn.Linear(width, width)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.frozen(self.shared(self.first(x))["hidden"]))


def test_tied_shared_and_frozen_weights() -> None:
    torch.manual_seed(2)
    model, inputs = Tied(), (torch.randn(4, 8),)
    units = ["first", "shared.block", "frozen", "last"]
    graph = trace(copy.deepcopy(model), inputs, units=units)
    plain = train_plain(model, inputs)
    everywhere = streaming(graph, gradients=Placement.HOST)
    # A weight that one of its units has on the device stays there.
    one_end = streaming(graph, everywhere.streamed_units[1:])
    for state in (everywhere, one_end, HOST_GRADIENTS):
        for actions in (Action.KEEP, Action.RECOMPUTE):
            plan = with_state(schedule(graph, actions), state)
            assert unequal(plain, train_planned(model, inputs, graph, plan)[0]) == []


def test_streamed_weights_have_memory_around_their_use_only() -> None:
    model, inputs, graph = chain(4)
    present: list[list[int]] = []

    def note(*_: object) -> None:
        weights = [block.inner.weight for block in model.blocks]
        present.append([w.untyped_storage().nbytes() for w in weights])

    for block in model.blocks:
        block.inner.register_forward_pre_hook(note)
    size = model.blocks[0].inner.weight.untyped_storage().nbytes()
    plan = with_state(schedule(graph), streaming(graph))
    with apply(model, graph, plan):
        note()
        model(*inputs).sum().backward()
    note()
    asleep, *running, awake = present
    assert asleep == [0, 0, 0, 0]
    ahead = [[0, 1], [1, 2], [2, 3], [3]]
    assert running == [[size * (i in units) for i in range(4)] for units in ahead]
    assert awake == [size] * 4


def test_evaluation_brings_the_weights_in() -> None:
    model, inputs, graph = chain(3)
    model.eval()
    with torch.no_grad():
        plain = model(*inputs)
    with apply(model, graph, with_state(schedule(graph), streaming(graph))):
        with torch.no_grad():
            assert torch.equal(model(*inputs), plain)
        with pytest.raises(RuntimeError, match=r"weights of module 'blocks.1' wait on the host"):
            model.blocks[1](inputs[0])
    assert torch.equal(model.blocks[1](inputs[0]), model.blocks[1](inputs[0]))


def test_weights_are_saved_and_loaded_while_they_are_away() -> None:
    model, inputs, graph = chain(3)
    other = {name: torch.full_like(value, 0.1) for name, value in model.state_dict().items()}
    before = copy.deepcopy(model.state_dict())
    with apply(model, graph, with_state(schedule(graph), streaming(graph))) as handle:
        assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
        model.load_state_dict(other)
        assert all(torch.equal(v, other[n]) for n, v in model.state_dict().items())
        optimizer = handle.make_optimizer(OPTIMIZERS["sgd_momentum"])
        model(*inputs).sum().backward()
        optimizer.step()
        assert all(value.numel() for value in model.state_dict().values())
    assert all(not torch.equal(v, other[n]) for n, v in model.state_dict().items())


def test_a_weight_that_somebody_changed_is_not_overwritten() -> None:
    model, inputs, graph = chain(2)
    with apply(model, graph, with_state(schedule(graph), HOST_STEP)) as handle:
        optimizer = handle.make_optimizer(lambda weights: torch.optim.SGD(weights, lr=0.0))
        with torch.no_grad():
            model.blocks[0].inner.weight.fill_(3.0)
        model(*inputs).sum().backward()
        optimizer.step()
    assert torch.equal(model.blocks[0].inner.weight, torch.full((16, 8), 3.0))


def test_gradients_on_the_host_come_back_with_the_plan() -> None:
    model, inputs, graph = chain(3)
    torch.manual_seed(0)
    model(*inputs).sum().backward()
    plain = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    with apply(model, graph, with_state(schedule(graph), HOST_GRADIENTS)) as handle:
        torch.manual_seed(0)
        model(*inputs).sum().backward()
        assert all(p.grad is None for p in model.parameters())
        on_host = handle.gradients()
        assert all(torch.equal(on_host[name], g) for name, g in plain.items())
    assert all(torch.equal(p.grad, plain[name]) for name, p in model.named_parameters())


def test_learning_rate_schedulers_drive_an_optimizer_on_the_host() -> None:
    model, inputs, graph = chain(2)
    with apply(model, graph, with_state(schedule(graph), HOST_STEP)) as handle:
        optimizer = handle.make_optimizer(OPTIMIZERS["adamw"])
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.0)
        weight = model.blocks[0].inner.weight
        moved = []
        for _ in range(2):
            before = weight.detach().clone()
            model(*inputs).sum().backward()
            optimizer.step()
            scheduler.step()
            moved.append(not torch.equal(before, weight))
    assert moved == [True, False]


def test_one_memory_for_host_and_device_is_refused() -> None:
    model, _, graph = chain(2)
    plan = with_state(schedule(graph), HOST_STEP)
    with pytest.raises(InvalidInputError, match="uses the host"):
        apply(model, graph, plan, cpu_hardware(host_pool="none"))


def test_weights_in_foreign_memory_are_refused() -> None:
    model, _, graph = chain(2)
    weight = model.blocks[0].inner.weight
    weight.data = torch.from_numpy(weight.detach().numpy().copy())
    with pytest.raises(InvalidInputError, match=r"weight 'blocks.0.inner.weight' lies in memory"):
        apply(model, graph, with_state(schedule(graph), streaming(graph)))
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_plan_may_be_put_on_again() -> None:
    model, inputs, graph = chain(2)
    plan = with_state(schedule(graph), streaming(graph))
    twice = dataclasses.replace(plan, state=StatePlan())
    for each in (plan, twice, plan):
        planned, _ = train_planned(model, inputs, graph, each)
        assert unequal(train_plain(model, inputs), planned) == []
