"""Units that recompute a part: when it happens, beside what, and what it leaves behind."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.memory.install import apply
from remora.graph.trace import trace
from remora.schedule.recompute import partial_closure
from remora.schedule.schedule import Group, Schedule
from tests.executor.memory.partial_cases import (
    OFFLOAD,
    RECOMPUTE,
    Model,
    check,
    counted,
    mixed,
    plan_of,
)
from tests.executor.memory.plans import differences, option, run_steps, schedule
from tests.executor.memory.toys import chain


def test_reruns_happen_once() -> None:
    model, inputs, graph = chain(3)
    again = {i: mixed(graph, i) for i in range(3)}
    expected = sum(
        graph.ops[graph.units[i].forward[0] + step].name == "aten.addmm.default"
        for i, one in again.items()
        for step in partial_closure(graph, graph.units[i], one).steps
    )
    assert expected >= 3

    def split_backward() -> None:
        loss = model(*inputs).square().sum()
        torch.autograd.grad(loss, inputs[0], retain_graph=True)
        torch.autograd.grad(loss, list(model.parameters()))

    plain = counted(split_backward)
    with apply(model, graph, plan_of(graph, again)):
        scheduled = counted(split_backward)
    assert scheduled["aten.addmm.default"] - plain["aten.addmm.default"] == expected


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
    options = {0: mixed(graph, 0), 1: mixed(graph, 1, "addmm", rest=OFFLOAD)}
    with apply(model, graph, plan_of(graph, options)):
        assert all(map(torch.equal, plain, two_backwards()))


def test_gradients_of_gradients() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        return (model.inner(x).tanh() * x).exp().sigmoid()

    torch.manual_seed(1)
    model, inputs = Model(function), (torch.randn(6, 8, requires_grad=True),)
    graph = trace(model, inputs, units=["head"])

    def penalty() -> list[Tensor]:
        loss = model(*inputs).square().sum()
        (slope,) = torch.autograd.grad(loss, inputs[0], create_graph=True)
        return list(torch.autograd.grad(slope.square().sum(), list(model.inner.parameters())))

    plain = penalty()
    for one in (mixed(graph, 0), mixed(graph, 0, "tanh"), mixed(graph, 0, rest=OFFLOAD)):
        with apply(model, graph, plan_of(graph, {0: one})):
            assert all(map(torch.equal, plain, penalty()))


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
    with apply(model, graph, plan_of(graph, {i: mixed(graph, i) for i in range(3)})):
        assert all(map(torch.equal, plain, gradients()))


def test_beside_groups_and_moved_checkpoints() -> None:
    model, inputs, graph = chain(6, batch=16)
    plain = run_steps(model, inputs)
    options = {
        0: mixed(graph, 0),
        1: option(graph, 1, RECOMPUTE),
        4: mixed(graph, 4, rest=OFFLOAD),
        5: mixed(graph, 5, "addmm"),
    }
    groups = (Group(1, 4, OFFLOAD, (Group(1, 3),)),)
    for pace in ((1, 1), (3, 2)):
        memory = {"groups": groups, "offload_window": pace[0], "prefetch_distance": pace[1]}
        with apply(model, graph, plan_of(graph, options, **memory)) as handle:
            assert differences(plain, run_steps(model, inputs)) == []
            assert handle.host_bytes == 0
            assert handle.host_peak_bytes > 0


def test_gradients_wanted_in_the_middle_of_a_forward() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        hidden = model.inner(x).tanh()
        (slope,) = torch.autograd.grad(hidden.sum(), model.inner.weight, retain_graph=True)
        return (hidden * slope.mean()).exp()

    check(function)


class Watching(TorchDispatchMode):
    """A mode of the model's own; notes how many modes lie below it."""

    def __init__(self, depths: list[int]) -> None:
        super().__init__()
        self.depths = depths

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # The runtime itself calls operators between units.
        if func is torch.ops.aten.exp.default:
            self.depths.append(len(_get_current_dispatch_mode_stack()))
        return func(*args, **(kwargs or {}))


class Overlapping(nn.Module):
    """Enters a mode in one unit and leaves it in the next."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4))
        self.depths: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        mode = Watching(self.depths)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == 0:
                mode.__enter__()
            x = x.exp()
            if index == 2:
                mode.__exit__(None, None, None)
        return x


def test_modes_of_the_model_may_cross_borders() -> None:
    torch.manual_seed(1)
    model, inputs = Overlapping(), (torch.randn(4, 8),)
    graph = trace(model, inputs, units=[f"blocks.{index}" for index in range(1, 4)])
    plain = run_steps(model, inputs)
    for units in ((0,), (1,), (2, 3), (0, 2), (0, 1, 2, 3)):
        model.depths.clear()
        with apply(model, graph, plan_of(graph, {i: mixed(graph, i) for i in units})):
            assert differences(plain, run_steps(model, inputs)) == []
            assert _get_current_dispatch_mode_stack() == []
        # It lies below the model's own mode, while a partial unit runs and no longer.
        assert set(model.depths) == {int(i in units) for i in (0, 1, 2)}


def test_no_mode_without_partial_options() -> None:
    model, inputs, graph = chain(3)
    seen: list[int] = []
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(
            lambda *_, index=index: seen.append(index * len(_get_current_dispatch_mode_stack()))
        )
    with apply(model, graph, schedule(graph, {0: RECOMPUTE, 1: OFFLOAD})):
        run_steps(model, inputs)
    assert set(seen) == {0}
    seen.clear()
    with apply(model, graph, plan_of(graph, {1: mixed(graph, 1)})):
        run_steps(model, inputs)
    assert sorted(seen) == [0, 0, 1]


def test_a_forward_that_fails_leaves_the_runtime_usable() -> None:
    model, inputs, graph = chain(3)
    plain = run_steps(model, inputs)
    with apply(model, graph, plan_of(graph, {i: mixed(graph, i) for i in range(3)})):
        with pytest.raises(RuntimeError, match="must match"):
            model(inputs[0], torch.ones(3, 3))
        assert _get_current_dispatch_mode_stack() == []
        assert differences(plain, run_steps(model, inputs)) == []


def test_changing_an_input_after_it_was_read_is_refused() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        return (model.inner(x) + x).tanh().exp()

    model, inputs = Model(function), (torch.randn(6, 8),)
    graph = trace(model, inputs, units=["head"])
    with apply(model, graph, plan_of(graph, {0: mixed(graph, 0)})):
        loss = model(*inputs).sum()
        inputs[0].add_(1.0)
        with pytest.raises(
            RuntimeError, match=r"backward of unit 'input' needs was changed in place"
        ):
            loss.backward()


def test_nothing_outlives_a_step_without_the_garbage_collector() -> None:
    model, inputs, graph = chain(6, width=16, batch=256)
    options = {0: mixed(graph, 0), 2: mixed(graph, 2, rest=OFFLOAD), 4: mixed(graph, 4, "addmm")}

    def steps(count: int) -> None:
        for _ in range(count):
            model(*inputs).square().sum().backward()
            model.zero_grad(set_to_none=True)
            inputs[0].grad = None

    def forwards(count: int) -> None:
        for _ in range(count):
            model(*inputs)

    gc.disable()
    try:
        with apply(model, graph, plan_of(graph, options)) as handle:
            steps(1)
            one = cpu_peak_bytes(lambda: steps(1))
            assert cpu_peak_bytes(lambda: steps(4)) == one
            forward = cpu_peak_bytes(lambda: forwards(1))
            assert cpu_peak_bytes(lambda: forwards(4)) == forward
            assert handle.host_bytes == 0
    finally:
        gc.enable()


def test_memory_falls_with_what_is_recomputed() -> None:
    model, inputs, graph = chain(6, width=16, batch=1024)

    def peak_bytes(plan: Schedule) -> int:
        with apply(model, graph, plan):
            return cpu_peak_bytes(lambda: run_steps(model, inputs))

    keep = peak_bytes(schedule(graph))
    some = peak_bytes(plan_of(graph, {i: mixed(graph, i, "empty_like") for i in range(6)}))
    more = peak_bytes(plan_of(graph, {i: mixed(graph, i) for i in range(6)}))
    assert more < 0.8 * some < 0.8 * keep
