"""Recomputation: how often units run, and everything that must be as if they ran once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from remora.executor.memory.install import apply
from remora.graph.trace import trace
from remora.schedule.schedule import Action, Group
from tests.executor.memory.plans import differences, run_steps, schedule
from tests.executor.memory.toys import Chain, NormBlock, Shared, chain

RECOMPUTE = Action.RECOMPUTE


def test_recomputed_units_run_twice() -> None:
    model, inputs, graph = chain(3)
    with apply(model, graph, schedule(graph, RECOMPUTE)):
        run_steps(model, inputs)
    assert model.calls() == [2, 2, 2]


def test_kept_units_run_once() -> None:
    model, inputs, graph = chain(3)
    with apply(model, graph, schedule(graph, {1: RECOMPUTE})):
        run_steps(model, inputs)
    assert model.calls() == [1, 2, 1]


def test_group_of_four_around_recomputed_units() -> None:
    model, inputs, graph = chain(4)
    plain = run_steps(model, inputs)
    model.reset()
    with apply(model, graph, schedule(graph, RECOMPUTE, groups=(Group(0, 4),))):
        assert differences(plain, run_steps(model, inputs)) == []
    assert model.calls() == [3, 3, 3, 2]


def test_groups_nested_to_depth_four() -> None:
    model, inputs, graph = chain(8)
    plain = run_steps(model, inputs)
    model.reset()
    pairs = [Group(start, start + 2) for start in (0, 2, 4, 6)]
    fours = (Group(0, 4, children=tuple(pairs[:2])), Group(4, 8, children=tuple(pairs[2:])))
    plan = schedule(graph, RECOMPUTE, groups=(Group(0, 8, children=fours),))
    with apply(model, graph, plan):
        assert differences(plain, run_steps(model, inputs)) == []
    assert model.calls() == [5, 4, 4, 3, 4, 3, 3, 2]


def test_kept_units_of_a_group_are_filled_by_its_replay() -> None:
    model, inputs, graph = chain(4)
    plain = run_steps(model, inputs)
    model.reset()
    with apply(model, graph, schedule(graph, {1: RECOMPUTE}, groups=(Group(0, 3),))):
        assert differences(plain, run_steps(model, inputs)) == []
    assert model.calls() == [2, 3, 2, 1]


def test_input_gradients_are_exact() -> None:
    model, inputs, graph = chain(4)
    run_steps(model, inputs)
    plain, inputs[0].grad = inputs[0].grad, None
    with apply(model, graph, schedule(graph, RECOMPUTE, groups=(Group(0, 4),))):
        run_steps(model, inputs)
    assert torch.equal(plain, inputs[0].grad)


def test_backward_twice_on_a_retained_graph() -> None:
    model, inputs, graph = chain(3)

    def two_backwards() -> list[Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        loss = model(*inputs).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = two_backwards()
    model.reset()
    with apply(model, graph, schedule(graph, {0: RECOMPUTE, 1: Action.OFFLOAD})):
        scheduled = two_backwards()
    assert all(map(torch.equal, plain, scheduled))
    assert model.calls() == [2, 1, 1]


def test_gradients_add_up_over_micro_batches() -> None:
    model, inputs, graph = chain(3)
    plain = run_steps(model, inputs, steps=2)
    with apply(model, graph, schedule(graph, RECOMPUTE, groups=(Group(0, 3),))):
        assert differences(plain, run_steps(model, inputs, steps=2)) == []


def test_two_forwards_before_their_backwards() -> None:
    model, inputs, graph = chain(3)

    def gradients() -> list[Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        first, second = model(*inputs), model(*inputs)
        first.sum().backward()
        second.square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = gradients()
    with apply(model, graph, schedule(graph, {0: RECOMPUTE, 1: Action.OFFLOAD, 2: RECOMPUTE})):
        assert all(map(torch.equal, plain, gradients()))


def test_autocast_holds_in_the_replay() -> None:
    model, inputs, graph = chain(3)

    def step() -> list[Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(*inputs).float().square().sum()
        loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = step()
    for plan in (
        schedule(graph, RECOMPUTE, groups=(Group(0, 2),)),
        schedule(graph, Action.OFFLOAD),
    ):
        with apply(model, graph, plan):
            assert all(map(torch.equal, plain, step()))


def test_buffers_change_once_and_replays_see_their_old_values() -> None:
    torch.manual_seed(1)
    model = Chain(3, block=NormBlock)
    inputs = (torch.randn(4, 8), torch.rand(4, 8))
    graph = trace(model, inputs, units=[f"blocks.{index}" for index in range(3)])
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    plain = run_steps(model, inputs, steps=2)
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    objects = dict(model.named_buffers())
    with apply(model, graph, schedule(graph, RECOMPUTE, groups=(Group(0, 2),))):
        assert differences(plain, run_steps(model, inputs, steps=2)) == []
    assert all(buffer is objects[name] for name, buffer in model.named_buffers())


def test_module_called_three_times_with_nested_arguments() -> None:
    torch.manual_seed(1)
    model = Shared()
    inputs = (torch.randn(4, 8),)
    graph = trace(model, inputs, units=["block"])
    plain = run_steps(model, inputs)
    for plan in (
        schedule(graph, {0: RECOMPUTE, 2: RECOMPUTE}),
        schedule(graph, {1: RECOMPUTE}, groups=(Group(0, 3),)),
        schedule(graph, {0: Action.OFFLOAD, 1: RECOMPUTE}),
    ):
        with apply(model, graph, plan):
            assert differences(plain, run_steps(model, inputs)) == []


class Drifting(nn.Module):
    """Gives tensors of another shape whenever it runs again."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        repeated = torch.cat([x] * self.runs)
        return self.linear(repeated).tanh().sum(0, keepdim=True)


class Holder(nn.Module):
    """A parent of one drifting module."""

    def __init__(self) -> None:
        super().__init__()
        self.drifting = Drifting()
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drifting(x))


def test_a_model_that_is_not_deterministic_is_named() -> None:
    model, inputs = Holder(), (torch.randn(2, 4),)
    graph = trace(model, inputs, units=["head"])
    model.drifting.runs = 0
    with (
        apply(model, graph, schedule(graph, {0: RECOMPUTE})),
        pytest.raises(RuntimeError, match=r"unit 'input'.*not deterministic"),
    ):
        run_steps(model, inputs)


class Trampling(nn.Module):
    """The second unit changes what the first one returned, in place, if told to."""

    def __init__(self, tramples: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.tramples = tramples

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.second(y[:1].floor())
        y = y.add_(1.0) if self.tramples else y + 1.0
        return y + z


def test_a_unit_that_changes_its_input_in_place_joins_the_one_before() -> None:
    model, inputs = Trampling(tramples=True), (torch.randn(2, 4),)
    graph = trace(model, inputs, units=["second"])
    plain = run_steps(model, inputs)
    with apply(model, graph, schedule(graph, RECOMPUTE)):
        assert differences(plain, run_steps(model, inputs)) == []


def test_changing_a_region_input_in_place_is_refused() -> None:
    model, inputs = Trampling(tramples=False), (torch.randn(2, 4),)
    graph = trace(model, inputs, units=["second"])
    model.tramples = True
    with (
        apply(model, graph, schedule(graph, {1: RECOMPUTE})),
        pytest.raises(RuntimeError, match="unit 'second' changes a tensor in place"),
    ):
        run_steps(model, inputs)


class Masked(nn.Module):
    """Glue under no_grad, under vmap and by a custom autograd function."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            with torch.no_grad():
                scale = x.abs().mean()
            rows = torch.arange(x.shape[0])
            weight = torch.vmap(lambda row: row.cos())(rows.float())
            x = Square.apply(block(x) / (1 + scale)) * weight[:, None]
            x[:, 0] = x[:, 0].clone() * 2
        return x


class Square(torch.autograd.Function):
    """x * x, with a saved tensor that only the custom function knows of."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


def test_glue_that_cannot_be_recorded_is_kept() -> None:
    torch.manual_seed(1)
    model, inputs = Masked(), (torch.randn(5, 6),)
    graph = trace(model, inputs, units=["blocks.1", "blocks.2"])
    plain = run_steps(model, inputs)
    for plan in (schedule(graph, RECOMPUTE), schedule(graph, RECOMPUTE, groups=(Group(0, 3),))):
        with apply(model, graph, plan):
            assert differences(plain, run_steps(model, inputs)) == []


def test_a_forward_that_fails_leaves_the_runtime_usable() -> None:
    model, inputs, graph = chain(3)
    plain = run_steps(model, inputs)
    with apply(model, graph, schedule(graph, {1: RECOMPUTE, 2: Action.OFFLOAD})):
        with pytest.raises(RuntimeError, match="must match"):
            model(inputs[0], torch.ones(3, 3))
        assert differences(plain, run_steps(model, inputs)) == []


def test_a_replay_stops_after_the_last_saved_tensor() -> None:
    model, inputs, _ = chain(2)
    model.eval()
    # Without a mask and dropout behind it, nothing is saved after the block's last linear began.
    graph = trace(model, inputs[:1], units=["blocks.0", "blocks.1"])
    finished: list[int] = []
    model.blocks[0].outer.register_forward_hook(lambda *_: finished.append(1))
    model.reset()
    with apply(model, graph, schedule(graph, RECOMPUTE)):
        run_steps(model, inputs[:1])
    assert model.calls() == [2, 2]
    assert len(finished) == 1
