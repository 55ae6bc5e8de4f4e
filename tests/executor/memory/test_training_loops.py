"""Memory plans inside training loops as people write them: everything as without a plan."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.parametrizations import spectral_norm

from remora.errors import UsageError
from remora.executor.memory.install import apply
from remora.graph.trace import trace
from tests.executor.memory.loops import (
    BATCH,
    LENGTH,
    PLANS,
    batches,
    compare,
    make_model,
    outcome,
    plan_of,
    unequal,
)

every_plan = pytest.mark.parametrize("name", PLANS)


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def _steps(model: nn.Module) -> None:
    optimizer = _sgd(model)
    for x in batches(3):
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    model(x).sum().backward()


def _autocast(model: nn.Module) -> None:
    optimizer = _sgd(model)
    for x in batches(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x).float().square().mean()
        loss.backward()
        optimizer.step()


def _autocast_around_backward(model: nn.Module) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for x in batches(2):
            model(x).float().square().mean().backward()


def _scaled(model: nn.Module) -> None:
    optimizer = _sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for x in batches(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x).float().square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    scaler.scale(model(x).sum()).backward()


def _accumulated(model: nn.Module) -> None:
    optimizer = _sgd(model)
    for index, x in enumerate(batches(5)):
        (model(x).square().mean() / 2).backward()
        if index % 2:
            optimizer.step()
            optimizer.zero_grad()


def _two_forwards(model: nn.Module) -> None:
    first, second = batches(2)
    losses = [model(first).square().mean(), model(second).sin().mean()]
    losses[0].backward()
    losses[1].backward()


def _two_forwards_the_last_first(model: nn.Module) -> None:
    first, second = batches(2)
    losses = [model(first).square().mean(), model(second).sin().mean()]
    losses[1].backward()
    losses[0].backward()


def _one_loss_of_two_forwards(model: nn.Module) -> None:
    first, second = batches(2)
    (model(first) - model(second)).square().mean().backward()


def _evaluated_between(model: nn.Module) -> None:
    optimizer = _sgd(model)
    for x in batches(3):
        model(x).square().mean().backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            model(x)
        with torch.inference_mode():
            model(x)
        model.train()


def _evaluated_before_the_backward(model: nn.Module) -> None:
    x, other = batches(2)
    loss = model(x).square().mean()
    model.eval()
    with torch.no_grad():
        model(other)
    loss.backward()
    assert not any(module.training for module in model.modules())
    model.train()


def _gradients_in_eval_mode(model: nn.Module) -> None:
    x, other = batches(2)
    model(other).mean().backward()
    model.eval()
    loss = model(x).square().mean()
    model.train()
    # A forward in training here would change what autograd saved of the norms: PyTorch's own fault.
    loss.backward()


def _forward_without_backward(model: nn.Module) -> None:
    for x in batches(3):
        model(x)
    model(x).mean().backward()


def _other_sizes(model: nn.Module) -> None:
    for size in (BATCH // 2, 2 * BATCH, BATCH):
        (x,) = batches(1, size)
        model(x).square().sum().backward()


def _retained(model: nn.Module) -> None:
    (x,) = batches(1)
    output = model(x)
    output.square().mean().backward(retain_graph=True)
    output.sin().mean().backward()


def _twice_differentiated(model: nn.Module) -> None:
    (x,) = batches(1)
    x.requires_grad_()
    loss = model(x).sin().mean()
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    (loss + slope.square().sum()).backward()


def _in_another_thread(model: nn.Module) -> None:
    (x,) = batches(1)
    loss = model(x).square().mean()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()


def _a_forward_that_fails(model: nn.Module) -> None:
    def fail(*_: object) -> None:
        raise ValueError

    (x,) = batches(1)
    hook = model.get_submodule("blocks.2").register_forward_pre_hook(fail)
    with contextlib.suppress(ValueError):
        model(x)
    hook.remove()
    model(x).square().mean().backward()


def _double_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.mul_(2)


def _hooked(model: nn.Module) -> None:
    (x,) = batches(1)
    hooks = [
        model.get_submodule("blocks.1").register_forward_hook(lambda m, i, o: 1.5 * o),
        model.get_submodule("blocks.0.inner").register_forward_pre_hook(lambda m, i: i[0] + 1),
        model.get_submodule("blocks.1.norm").register_full_backward_hook(
            lambda m, i, o: tuple(None if g is None else 2 * g for g in i)
        ),
    ]
    for parameter in model.parameters():
        hooks.append(parameter.register_hook(lambda g: 3 * g))
        hooks.append(parameter.register_post_accumulate_grad_hook(_double_gradient))
    model(x).square().mean().backward()
    for hook in hooks:
        hook.remove()


def _in_double_precision(model: nn.Module) -> None:
    (x,) = batches(1)
    model.double()
    model(x.double()).square().mean().backward()


def _some_gradients(model: nn.Module) -> None:
    (x,) = batches(1)
    some = list(model.parameters())[::2]
    loss = model(x).square().mean()
    gradients = torch.autograd.grad(loss, some, retain_graph=True)
    torch.autograd.backward(loss, inputs=list(model.parameters())[1::2])
    for parameter, gradient in zip(some, gradients, strict=True):
        parameter.grad = gradient


def _frozen(model: nn.Module) -> None:
    for parameter in list(model.parameters())[:3]:
        parameter.requires_grad_(False)
    for x in batches(2):
        model(x).square().mean().backward()


def _functional(model: nn.Module) -> None:
    """Second-order learning: the loss after one step of gradient descent."""
    x, other = batches(2)
    weights = dict(model.named_parameters())
    loss = torch.func.functional_call(model, weights, (x,)).square().mean()
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    moved = {n: w - 0.1 * g for (n, w), g in zip(weights.items(), gradients, strict=True)}
    torch.func.functional_call(model, moved, (other,)).square().mean().backward()


LOOPS: tuple[Callable[[nn.Module], None], ...] = (
    _steps,
    _autocast,
    _autocast_around_backward,
    _scaled,
    _accumulated,
    _two_forwards,
    _two_forwards_the_last_first,
    _one_loss_of_two_forwards,
    _evaluated_between,
    _evaluated_before_the_backward,
    _gradients_in_eval_mode,
    _forward_without_backward,
    _other_sizes,
    _retained,
    _twice_differentiated,
    _in_another_thread,
    _a_forward_that_fails,
    _hooked,
    _in_double_precision,
    _some_gradients,
    _frozen,
    _functional,
)


@every_plan
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__.strip("_"))
def test_everything_is_as_without_a_plan(name: str, loop: Callable[[nn.Module], None]) -> None:
    different, handle = compare(name, loop)
    assert different == []
    assert handle.host_bytes == 0


@every_plan
def test_transforms_of_functions_are_refused(name: str) -> None:
    model, graph = make_model()
    (x,) = batches(1)
    weights = {key: weight.detach() for key, weight in model.named_parameters()}
    model.eval()

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, (x,)).square().mean()

    plain = torch.func.grad(loss)(weights)
    with apply(model, graph, plan_of(graph, name)):
        with pytest.raises(UsageError, match=r"inside of a transform of torch\.func"):
            torch.func.grad(loss)(weights)
        with torch.no_grad():
            assert torch.equal(torch.func.vmap(model)(x[None])[0], model(x))
    again = torch.func.grad(loss)(weights)
    assert all(torch.equal(plain[key], again[key]) for key in weights)


@every_plan
def test_forward_mode_is_refused(name: str) -> None:
    model, graph = make_model()
    (x,) = batches(1)
    with apply(model, graph, plan_of(graph, name)), forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(UsageError, match="inside of forward-mode differentiation"):
            model(dual)


@pytest.mark.parametrize("name", ["recompute", "nested"])
@pytest.mark.parametrize("weight", ["blocks.0.inner.bias", "blocks.1.norm.weight"])
def test_a_weight_changed_before_the_backward_is_refused(name: str, weight: str) -> None:
    model, graph = make_model()
    (x,) = batches(1)
    with apply(model, graph, plan_of(graph, name)):
        loss = model(x).sum()
        with torch.no_grad():
            model.get_parameter(weight).add_(1.0)
        with pytest.raises(RuntimeError, match=f"'{weight}' was changed in place between"):
            loss.backward()
        model.zero_grad()
        model(x).sum().backward()
        assert all(p.grad is not None for p in model.parameters())


@every_plan
def test_state_dicts_are_those_of_the_plain_model(name: str) -> None:
    model, graph = make_model()
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    ids = [id(parameter) for parameter in model.parameters()]
    with apply(model, graph, plan_of(graph, name)):
        planned = model.state_dict()
        assert list(planned) == list(plain)
        assert all(torch.equal(planned[key], plain[key]) for key in plain)
        _steps(model)
        assert list(model.state_dict()) == list(plain)
        model.load_state_dict(plain)
        assert all(torch.equal(value, plain[key]) for key, value in model.state_dict().items())
        assert [id(parameter) for parameter in model.parameters()] == ids


@every_plan
def test_training_goes_on_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for x in batches(steps):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    def interrupted(model: nn.Module) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        train(model, optimizer, 2)
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(saved, tmp_path / "checkpoint.pt")
        train(model, optimizer, 1)
        loaded = torch.load(tmp_path / "checkpoint.pt")
        other = torch.optim.AdamW(model.parameters(), lr=0.01)
        model.load_state_dict(loaded["model"])
        other.load_state_dict(loaded["optimizer"])
        train(model, other, 2)

    different, _ = compare(name, interrupted)
    assert different == []


def _with_spectral_norm() -> nn.Module:
    model, _ = make_model()
    torch.manual_seed(8)
    spectral_norm(model.get_submodule("blocks.2.outer"))
    return model


@every_plan
def test_buffers_that_every_forward_changes(name: str) -> None:
    units = [f"blocks.{index}" for index in range(LENGTH)]
    model, graph = _with_spectral_norm(), trace(_with_spectral_norm(), batches(1), units=units)
    first, second = batches(2)

    def loop(model: nn.Module) -> None:
        for x in (first, second):
            model(x).square().mean().backward()
        (model(first) - model(second)).square().mean().backward()

    plain = outcome(_with_spectral_norm(), loop)
    with apply(model, graph, plan_of(graph, name)):
        assert unequal(plain, outcome(model, loop)) == []
