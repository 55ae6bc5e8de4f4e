"""Units that recompute a part of what they save: every rule that keeps the result exact."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.memory.install import apply
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.menu import keep_option
from remora.schedule.recompute import partial_closure
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule, UnitOption
from tests.executor.memory.plans import differences, option, run_steps, schedule
from tests.executor.memory.toys import Chain, NormBlock, Shared, chain

RECOMPUTE, KEEP, OFFLOAD = Action.RECOMPUTE, Action.KEEP, Action.OFFLOAD


def makers(graph: ModelGraph, unit: int) -> list[str]:
    """Operator that made the storage of every saved tensor; empty for what exists before."""
    storages = [graph.storages[graph.storage_of(s)] for s in graph.units[unit].saved]
    first = graph.units[unit].forward[0]
    return [graph.ops[s.created].name.split(".")[1] if s.created >= first else "" for s in storages]


def mixed(graph: ModelGraph, unit: int, *recomputed: str, rest: Action = KEEP) -> UnitOption:
    """Recompute what the named operators made (all if none is named), treat the rest as said."""
    names = makers(graph, unit)
    assert set(recomputed) <= set(names), names
    chosen = [
        RECOMPUTE if name and (name in recomputed or not recomputed) else rest for name in names
    ]
    saved = graph.units[unit].saved
    return UnitOption(tuple((s.name, action) for s, action in zip(saved, chosen, strict=True)))


def plan_of(graph: ModelGraph, options: dict[int, UnitOption], **memory: Any) -> Schedule:
    chosen = tuple(options.get(u.index, keep_option(u)) for u in graph.units)
    return Schedule(graph.content_hash, MemoryPlan(chosen, **memory))


class Counting(TorchDispatchMode):
    """Counts operators that make or change memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def counted(function: Callable[[], object]) -> Counter[str]:
    with Counting() as mode:
        function()
    return mode.calls


class Model(nn.Module):
    """Calls a function in its first unit; the second unit is a linear layer."""

    def __init__(self, function: Callable[[Model, Tensor], Tensor], width: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, width)
        self.function = function
        self.more = False

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self, x))


def check(
    function: Callable[[Model, Tensor], Tensor],
    *recomputed: str,
    steps: int = 1,
    expected: tuple[str, ...] | None = None,
) -> None:
    """Recompute results of some operators of ``function``; all else must be as in a plain run.

    Args:
        function: first unit of a model.
        recomputed: operators whose saved results are recomputed; all if there are none.
        steps: forward and backward that many times.
        expected: operators that run again.
    """
    torch.manual_seed(1)
    model, inputs = Model(function), (torch.randn(6, 8),)
    graph = trace(model, inputs, units=["head"])
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    plain = run_steps(model, inputs, steps=steps)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    one = mixed(graph, 0, *recomputed)
    if expected is not None:
        again = partial_closure(graph, graph.units[0], one).steps
        assert tuple(graph.ops[i].name.split(".")[1] for i in again) == expected
    with apply(model, graph, plan_of(graph, {0: one})):
        assert differences(plain, run_steps(model, inputs, steps=steps)) == []


def two_dropouts(model: Model, x: Tensor) -> Tensor:
    first = nn.functional.dropout(model.inner(x), 0.5)
    return nn.functional.dropout(first.exp(), 0.5).tanh()


def test_a_kept_dropout_does_not_shift_the_next() -> None:
    # Masks are made by filling empty memory; of the two only the second runs again.
    torch.manual_seed(1)
    model, inputs = Model(two_dropouts), (torch.randn(6, 8),)
    graph = trace(model, inputs, units=["head"])
    plain = run_steps(model, inputs)
    masks = [i for i, name in enumerate(makers(graph, 0)) if name == "empty_like"]
    for chosen in (masks[:1], masks[1:], masks):
        actions = [(s.name, RECOMPUTE if s.index in chosen else KEEP) for s in graph.units[0].saved]
        with apply(model, graph, plan_of(graph, {0: UnitOption(tuple(actions))})):
            ran = counted(lambda: differences(plain, run_steps(model, inputs)))
            assert ran["aten.bernoulli_.float"] == 2 + len(chosen)
            assert differences(plain, run_steps(model, inputs)) == []


def test_a_mask_is_made_with_all_that_changes_it() -> None:
    check(two_dropouts, "empty_like", expected=2 * ("empty_like", "bernoulli_", "div_"))


def test_a_kept_mask_is_read_in_its_last_state() -> None:
    check(two_dropouts, "exp", "tanh", expected=("addmm", "mul", "exp", "mul", "tanh"))


def test_batch_norm_changes_its_statistics_once() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        return model.norm(model.inner(x).tanh()).exp()

    check(function, steps=3, expected=("addmm", "tanh", "native_batch_norm", "exp"))
    check(function, "exp", steps=3, expected=("native_batch_norm", "exp"))


def test_batch_norm_in_evaluation_mode() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        return model.norm(model.inner(x).tanh()).exp()

    torch.manual_seed(1)
    model, inputs = Model(function).eval(), (torch.randn(6, 8),)
    assert isinstance(model.norm.running_var, Tensor)
    model.norm.running_var.fill_(3.0)
    graph = trace(model, inputs, units=["head"])
    plain = run_steps(model, inputs)
    with apply(model, graph, plan_of(graph, {0: mixed(graph, 0)})):
        assert differences(plain, run_steps(model, inputs)) == []


def test_in_place_operators_belong_to_what_they_change() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        return model.inner(x).relu_().mul_(0.5).exp()

    # relu_ saves its result, which mul_ must not change, so autograd sees a clone.
    def cloned(model: Model, x: Tensor) -> Tensor:
        return torch.exp(model.inner(x).relu_().clone().mul_(0.5).sin_())

    check(cloned)
    check(cloned, "exp")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        run_steps(Model(function), (torch.randn(6, 8),))


def test_a_read_before_the_last_change_gets_a_private_copy() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x.abs()
            early = scale + 1
            scale.mul_(3.0)
        return (model.inner(x) * early).tanh() * scale

    # The last state of `scale` is saved and kept; `early` was made from the one before.
    check(function, "add", expected=("abs", "add"))
    check(function, "add", "tanh")


def test_slices_written_one_by_one() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        hidden = model.inner(x)
        out[:, :4] = hidden[:, :4].sin()
        out[:, 4:] = hidden[:, 4:].cos()
        return out.exp() * out

    check(function)
    check(function, "zeros_like")


def test_buffers_that_the_forward_reads_and_writes() -> None:
    torch.manual_seed(1)
    model = Chain(3, block=NormBlock)
    inputs = (torch.randn(4, 8), torch.rand(4, 8))
    graph = trace(model, inputs, units=[f"blocks.{index}" for index in range(3)])
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    plain = run_steps(model, inputs, steps=2)
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    with apply(model, graph, plan_of(graph, {i: mixed(graph, i) for i in range(3)})):
        assert differences(plain, run_steps(model, inputs, steps=2)) == []


def test_a_buffer_is_read_as_it_was_before_a_change() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        assert isinstance(model.norm.running_var, Tensor)
        with torch.no_grad():
            early = model.norm.running_var * 2
            model.norm.running_var.add_(1.0)
        return (model.inner(x) * early).tanh()

    check(function, "mul", "tanh", steps=2)


def test_a_generator_of_the_models_own() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        noise = torch.rand(x.shape, generator=generator)
        torch.rand(3, generator=generator)
        return (model.inner(x) * noise).exp() * torch.rand_like(x)

    check(function)
    check(function, "rand")
    check(function, "rand_like", "exp")


def test_module_called_three_times() -> None:
    torch.manual_seed(1)
    model, inputs = Shared(), (torch.randn(4, 8),)
    graph = trace(model, inputs, units=["block"])
    plain = run_steps(model, inputs)
    for options in (
        {i: mixed(graph, i) for i in range(3)},
        {1: mixed(graph, 1, "tanh"), 2: mixed(graph, 2, rest=OFFLOAD)},
    ):
        with apply(model, graph, plan_of(graph, options)):
            assert differences(plain, run_steps(model, inputs)) == []


class Casting(nn.Module):
    """A layer used twice under autocast, which casts its weight once."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.head = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.linear(x).tanh()
            x = self.linear(self.head(x)).exp()
        return x.float()


def test_autocast_casts_a_shared_weight_once() -> None:
    torch.manual_seed(1)
    model, inputs = Casting(), (torch.randn(4, 8),)
    graph = trace(model, inputs, units=["head"])
    casts = [o.name for o in graph.ops[: graph.num_forward_ops] if "_to_copy" in o.name]
    assert casts
    plain = run_steps(model, inputs)
    for options in (
        {0: mixed(graph, 0)},
        {1: mixed(graph, 1)},
        {0: mixed(graph, 0), 1: mixed(graph, 1)},
    ):
        with apply(model, graph, plan_of(graph, options)):
            assert differences(plain, run_steps(model, inputs)) == []
            with torch.autocast("cpu", dtype=torch.bfloat16):
                # The modes of the backward are none of a rerun's business.
                assert differences(plain, run_steps(model, inputs)) == []


def test_a_run_that_differs_from_the_trace_is_exact_too() -> None:
    model, inputs, graph = chain(3)

    def step() -> list[Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(*inputs).float().square().sum()
        loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = step()
    options = {0: mixed(graph, 0), 1: mixed(graph, 1, rest=OFFLOAD), 2: mixed(graph, 2)}
    with apply(model, graph, plan_of(graph, options)):
        assert all(map(torch.equal, plain, step()))


def test_one_operator_more_than_in_the_trace() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        hidden = model.inner(x) + 1.0
        weight = model.head.weight.sin() if model.more else model.head.weight
        return hidden.exp().sigmoid().tanh() * weight[:6]

    # Each of the three saves its own result. In the trace one of them runs again from the one
    # before it; one more saved tensor shifts that by one, to a result of what nobody saves.
    torch.manual_seed(1)
    model, inputs = Model(function), (torch.randn(6, 8),)
    graph = trace(model, inputs, units=["head"])
    model.more = True
    plain = run_steps(model, inputs)
    for name in ("exp", "sigmoid", "tanh"):
        with apply(model, graph, plan_of(graph, {0: mixed(graph, 0, name)})):
            assert differences(plain, run_steps(model, inputs)) == []


def test_complex_and_conjugated_tensors() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft(model.inner(x)).conj()
        return (spectrum * spectrum.conj().exp()).imag.neg().exp()

    check(function)
    check(function, "exp")


def test_autocast_around_the_backward_alone() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return model.inner(x).tanh()

    torch.manual_seed(1)
    model, inputs = Model(function), (torch.randn(6, 8),)
    graph = trace(model, inputs, units=["head"])

    def step() -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return list(torch.autograd.grad(model(*inputs).sum(), list(model.inner.parameters())))

    plain = step()
    with apply(model, graph, plan_of(graph, {0: mixed(graph, 0)})):
        assert all(map(torch.equal, plain, step()))


def test_what_is_written_out_of_sight_is_kept() -> None:
    def function(model: Model, x: Tensor) -> Tensor:
        table = torch.empty(x.shape)
        table.numpy()[:] = 0.25
        return (model.inner(x) * table).tanh() * table

    check(function)


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
