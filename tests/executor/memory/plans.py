"""Schedules by hand and at random, and one plain or scheduled training step to compare."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss
from remora.graph.model_graph import ModelGraph
from remora.schedule.menu import keep_option, recompute_option, unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule, UnitOption


def option(graph: ModelGraph, unit: int, action: Action) -> UnitOption:
    """One action for all saved tensors of a unit; what must stay on the device is kept."""
    record = graph.units[unit]
    if action is Action.KEEP or record.fixed_reason:
        return keep_option(record)
    if action is Action.OFFLOAD:
        static = {s.name for s in record.saved if graph.storages[graph.storage_of(s)].created < 0}
        return UnitOption(
            tuple(
                (saved.name, Action.KEEP if saved.name in static else Action.OFFLOAD)
                for saved in record.saved
            )
        )
    return recompute_option(record)


def schedule(
    graph: ModelGraph,
    actions: dict[int, Action] | Action = Action.KEEP,
    groups: tuple[Group, ...] = (),
    window: int = 2,
    distance: int = 1,
) -> Schedule:
    """A schedule with one action per unit (KEEP where none is given)."""
    options = tuple(
        option(
            graph,
            unit.index,
            actions if isinstance(actions, Action) else actions.get(unit.index, Action.KEEP),
        )
        for unit in graph.units
    )
    return Schedule(graph.content_hash, MemoryPlan(options, groups, window, distance))


def random_schedule(graph: ModelGraph, seed: int, lossy: bool = False) -> Schedule:
    """Nested groups at random; between them units kept, recomputed, moved or mixed inside."""
    draw = random.Random(seed)
    free = [unit.index for unit in graph.units if not unit.fixed_reason]
    groups = tuple(nested_groups(draw, free[0], free[-1] + 1))
    inside = {i for group in groups for i in range(group.start, group.end)}
    options = []
    for unit in graph.units:
        allowed: list[Action | None] = [Action.KEEP, Action.RECOMPUTE]
        if unit.index not in inside:
            allowed += [Action.OFFLOAD, None, None]
        action = draw.choice(allowed)
        options.append(
            mixed_option(graph, unit.index, draw, lossy)
            if action is None
            else option(graph, unit.index, action)
        )
    window, distance = draw.choice([1, 2, 3]), draw.choice([1, 2])
    return Schedule(graph.content_hash, MemoryPlan(tuple(options), groups, window, distance))


def mixed_option(
    graph: ModelGraph, unit: int, draw: random.Random, lossy: bool = False
) -> UnitOption:
    """An action at random for every storage that a unit saves; now and then views disagree."""
    record = graph.units[unit]
    if record.fixed_reason:
        return keep_option(record)
    actions = [Action.KEEP, Action.RECOMPUTE, Action.RECOMPUTE, Action.OFFLOAD]
    actions += [Action.COMPRESS, Action.COMPRESS] if lossy else []
    allowed = draw.sample(actions, draw.randint(2, len(actions)))
    chosen: dict[int, Action] = {}
    row = []
    for saved in record.saved:
        common = chosen.setdefault(graph.storage_of(saved), draw.choice(allowed))
        row.append((saved.name, draw.choice(allowed) if draw.random() < 0.03 else common))
    return UnitOption(tuple(row))


def menu_schedule(problem: Problem, seed: int) -> Schedule:
    """Every unit takes an entry of its menu at random."""
    draw = random.Random(seed)
    graph = problem.graph
    options = tuple(draw.choice(unit_menu(problem, unit)) for unit in graph.units)
    window, distance = draw.choice([1, 2, 3]), draw.choice([1, 2])
    return Schedule(graph.content_hash, MemoryPlan(options, (), window, distance))


def nested_groups(draw: random.Random, start: int, end: int, depth: int = 0) -> list[Group]:
    """Recompute groups at random in a range of units, up to four deep."""
    groups, position = [], start
    while position < end:
        length = draw.randint(1, max(1, end - position))
        if draw.random() < 0.6 and (length > 1 or depth == 0):
            stop = position + length
            smaller = length > 1 and depth < 3
            children = nested_groups(draw, position, stop, depth + 1) if smaller else []
            children = [c for c in children if c.end - c.start < length]
            checkpoint = draw.choice([Action.KEEP, Action.OFFLOAD]) if depth == 0 else Action.KEEP
            groups.append(Group(position, stop, checkpoint, tuple(children)))
        position += length
    return groups


@dataclass(frozen=True)
class StepResult:
    """What one forward and backward left behind."""

    loss: Tensor
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    random_state: Tensor


def run_steps(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None = None,
    steps: int = 1,
    seed: int = 0,
) -> StepResult:
    """Run forward and backward ``steps`` times without an optimizer; gradients add up."""
    torch.manual_seed(seed)
    model.zero_grad(set_to_none=True)
    for _ in range(steps):
        value = resolve_loss(loss)(call_model(model, example_inputs))
        value.backward()
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return StepResult(
        loss=value.detach(),
        gradients=gradients,
        buffers={n: b.clone() for n, b in model.named_buffers()},
        random_state=torch.get_rng_state(),
    )


def differences(a: StepResult, b: StepResult) -> list[str]:
    """Names of everything that is not bitwise equal."""
    found = [] if torch.equal(a.loss, b.loss) else ["loss"]
    for name, gradient in a.gradients.items():
        other = b.gradients[name]
        if gradient is None or other is None:
            same = gradient is other
        else:
            same = torch.equal(gradient, other)
        found += [] if same else [f"gradient {name}"]
    found += [f"buffer {n}" for n, v in a.buffers.items() if not torch.equal(v, b.buffers[n])]
    found += [] if torch.equal(a.random_state, b.random_state) else ["random state"]
    return found
