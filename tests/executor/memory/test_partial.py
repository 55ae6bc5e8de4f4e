"""Units that recompute a part of what they save: every rule that keeps the result exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from remora.executor.memory.install import apply
from remora.graph.trace import trace
from remora.schedule.schedule import UnitOption
from tests.executor.memory.partial_cases import (
    KEEP,
    OFFLOAD,
    RECOMPUTE,
    Model,
    check,
    counted,
    makers,
    mixed,
    plan_of,
)
from tests.executor.memory.plans import differences, run_steps
from tests.executor.memory.toys import Chain, NormBlock, Shared, chain


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
