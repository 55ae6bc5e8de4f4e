"""Plans of the state by hand and at random, and training under them beside plain training."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from remora.executor.memory.install import Handle, apply
from remora.graph.loss import ExampleInputs, call_model, resolve_loss
from remora.graph.model_graph import ModelGraph
from remora.schedule.parameters import StaticStorages
from remora.schedule.schedule import Placement, Schedule, StatePlan

OPTIMIZERS: dict[str, Callable[[Sequence[Tensor]], torch.optim.Optimizer]] = {
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=1e-2),
    "adam": lambda weights: torch.optim.Adam(weights, lr=1e-2),
    "sgd_momentum": lambda weights: torch.optim.SGD(weights, lr=1e-2, momentum=0.9),
}
HOST_STEP = StatePlan(optimizer=Placement.HOST)
HOST_GRADIENTS = StatePlan(gradients=Placement.HOST, optimizer=Placement.HOST)


def units_with_weights(graph: ModelGraph) -> tuple[int, ...]:
    statics = StaticStorages(graph, 1)
    return tuple(u.index for u in graph.units if statics.weights_of((u.index,)))


def streaming(graph: ModelGraph, units: Sequence[int] | None = None, **fields: Any) -> StatePlan:
    """Weights of some units, or of all, wait on the host."""
    chosen = units_with_weights(graph) if units is None else tuple(units)
    return StatePlan(Placement.HOST, optimizer=Placement.HOST, streamed_units=chosen, **fields)


def random_state(graph: ModelGraph, seed: int) -> StatePlan:
    """Any plan of one device but eight bits."""
    draw = random.Random(seed)
    able = units_with_weights(graph)
    chosen = tuple(sorted(draw.sample(able, draw.randint(1, len(able)))))
    gradients = draw.choice([Placement.DEVICE, Placement.HOST])
    if draw.random() < 0.25:
        return StatePlan(gradients=gradients, optimizer=Placement.HOST)
    return streaming(graph, chosen, gradients=gradients)


def with_state(plan: Schedule, state: StatePlan) -> Schedule:
    return dataclasses.replace(plan, state=state)


def train_plain(
    model: nn.Module,
    inputs: ExampleInputs,
    optimizer_name: str = "adamw",
    loss: Callable[[Any], Tensor] | None = None,
    steps: int = 3,
    backwards: int = 1,
) -> dict[str, Tensor]:
    """Train a copy of a model; returns its state and the random state afterwards."""
    model = copy.deepcopy(model)
    optimizer = OPTIMIZERS[optimizer_name](list(model.parameters()))
    return _train(model, inputs, loss, optimizer, steps, backwards)


def train_planned(
    model: nn.Module,
    inputs: ExampleInputs,
    graph: ModelGraph,
    plan: Schedule,
    optimizer_name: str = "adamw",
    loss: Callable[[Any], Tensor] | None = None,
    steps: int = 3,
    backwards: int = 1,
) -> tuple[dict[str, Tensor], Handle]:
    """Train a copy of a model under a plan; as :func:`train_plain`."""
    model = copy.deepcopy(model)
    with apply(model, graph, plan) as handle:
        optimizer = handle.make_optimizer(OPTIMIZERS[optimizer_name])
        under_plan = _train(model, inputs, loss, optimizer, steps, backwards)
    removed = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(value, under_plan[name]) for name, value in removed.items())
    return under_plan, handle


def unequal(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names of what is not bitwise equal."""
    assert a.keys() == b.keys()
    return [name for name, value in a.items() if not torch.equal(value, b[name])]


def _train(
    model: nn.Module,
    inputs: ExampleInputs,
    loss: Callable[[Any], Tensor] | None,
    optimizer: torch.optim.Optimizer,
    steps: int,
    backwards: int,
) -> dict[str, Tensor]:
    torch.manual_seed(7)
    for _ in range(steps):
        for _ in range(backwards):
            resolve_loss(loss)(call_model(model, inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()
    left = {name: value.clone() for name, value in model.state_dict().items()}
    return left | {"random state": torch.get_rng_state()}
