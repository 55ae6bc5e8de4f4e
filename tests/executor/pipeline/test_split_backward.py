"""Backwards in two halves: together they are the whole one, and no product runs twice."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode

from remora.executor.pipeline.split_backward import SplitBackward

WIDTH = 6


class Tied(nn.Module):
    """One layer used four times, once on its own output, and a bias made of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.bias = nn.Parameter(torch.randn(WIDTH))
        self.other = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        bias = (self.bias * 2).exp()  # shared work between weights and two places
        y = self.norm(self.layer(x)).relu() + bias
        y = self.layer(self.layer(y)) + bias * x
        return self.other(y) + self.layer(y)


class Plain(nn.Sequential):
    """Products with activations between them."""

    def __init__(self) -> None:
        super().__init__(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(3)))


class Counting(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.calls[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _whole(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor], Counter[str]]:
    received = x.clone().requires_grad_()
    loss = model(received).square().sum()
    with Counting() as counting:
        loss.backward()
    assert received.grad is not None
    return received.grad, _gradients(model), counting.calls


@pytest.mark.parametrize("make", [Plain, Tied])
def test_the_halves_are_the_whole(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = make(), torch.randn(5, WIDTH)
    wanted, gradients, _ = _whole(copy.deepcopy(model), x)
    received = x.clone().requires_grad_()
    halves = SplitBackward([model(received).square().sum()], None, [get_gradient_edge(received)])
    (made,) = halves.run_inputs()
    assert made is not None
    assert torch.equal(made, wanted)
    assert _gradients(model) == {}
    halves.run_weights()
    found = _gradients(model)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-6)


def test_no_product_runs_twice() -> None:
    torch.manual_seed(0)
    model, x = Plain(), torch.randn(5, WIDTH)
    _, _, calls = _whole(copy.deepcopy(model), x)
    received = x.clone().requires_grad_()
    halves = SplitBackward([model(received).square().sum()], None, [get_gradient_edge(received)])
    with Counting() as first:
        halves.run_inputs()
    with Counting() as second:
        halves.run_weights()
    assert first.calls["mm"] == second.calls["mm"] == 3
    assert first.calls["mm"] + second.calls["mm"] == calls["mm"]
    assert second.calls["gelu_backward"] == 0


def test_gradients_add_up_over_micro_batches() -> None:
    torch.manual_seed(0)
    model = Tied()
    inputs = [torch.randn(5, WIDTH) for _ in range(3)]
    reference = copy.deepcopy(model)
    for x in inputs:
        reference(x).sum().backward()
    halves = []
    for x in inputs:
        received = x.clone().requires_grad_()
        halves.append(SplitBackward([model(received).sum()], None, [get_gradient_edge(received)]))
        halves[-1].run_inputs()
    for half in halves:
        half.run_weights()
    for name, gradient in _gradients(reference).items():
        torch.testing.assert_close(_gradients(model)[name], gradient, rtol=1e-5, atol=1e-5)


def test_the_first_half_may_end_inside_a_stage() -> None:
    torch.manual_seed(0)
    model, x = Plain(), torch.randn(5, WIDTH)
    _, gradients, _ = _whole(copy.deepcopy(model), x)
    border = model[0](x)
    loss = model[2](model[1](border)).square().sum()
    halves = SplitBackward([loss], None, [get_gradient_edge(border)], hand_over=True)
    halves.run_inputs()
    halves.run_weights()
    for name, gradient in gradients.items():
        torch.testing.assert_close(_gradients(model)[name], gradient, rtol=1e-6, atol=1e-6)


def test_outputs_without_gradients_start_nothing() -> None:
    weight = torch.ones(3, requires_grad=True)
    halves = SplitBackward([weight * 2, torch.ones(3)], [torch.ones(3), None], [])
    assert halves.run_inputs() == []
    halves.run_weights()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0] * 3
