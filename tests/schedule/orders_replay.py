"""A replay of an order with given durations, and an exhaustive search; both know no other code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from remora.schedule.orders import Order, TaskKind

F, B, I, W = TaskKind.FORWARD, TaskKind.BACKWARD, TaskKind.BACKWARD_INPUT, TaskKind.BACKWARD_WEIGHT  # noqa: E741
Task = tuple[TaskKind, int, int]
Event = tuple[str, int, int]


@dataclass(frozen=True)
class Replay:
    """When the last task ends, and the most chunks' activations each rank holds at once."""

    makespan: int
    held: list[int]  # [p]


def timed(forward: int, backward: int, weights: int = 0) -> dict[TaskKind, int]:
    """Durations of a stage's tasks; ``backward`` has both parts, ``weights`` is its second."""
    return {F: forward, B: backward, I: backward - weights, W: weights}


def tasks_by_rank(order: Order) -> list[list[Task]]:
    return [order.tasks_of(rank) for rank in range(order.num_ranks)]


def replay(order: Order, durations: Mapping[TaskKind, int], copies: int = 1) -> Replay:
    """Run the tasks as soon as their inputs are there; fails if a rank waits for ever."""
    ranks = tasks_by_rank(order)
    per_copy = len(order.stage_rank) // copies
    ended: dict[Event, int] = {}
    waiting = [0] * len(ranks)  # next task of every rank
    now = [0] * len(ranks)
    moved = True
    while moved:
        moved = False
        for rank, tasks in enumerate(ranks):
            while waiting[rank] < len(tasks):
                kind, stage, micro_batch = tasks[waiting[rank]]
                needed = inputs_of(kind, stage, micro_batch, per_copy)
                if any(event not in ended for event in needed):
                    break
                begin = max([now[rank], *(ended[event] for event in needed)])
                now[rank] = begin + durations[kind]
                ended[output_of(kind, stage, micro_batch)] = now[rank]
                waiting[rank] += 1
                moved = True
    stuck = [tasks[at] for tasks, at in zip(ranks, waiting, strict=True) if at < len(tasks)]
    assert not stuck, f"these wait for ever: {stuck}"
    return Replay(max(now), [peak_of(tasks) for tasks in ranks])


def output_of(kind: TaskKind, stage: int, micro_batch: int) -> Event:
    return {F: "out", B: "gradient", I: "gradient", W: "weights"}[kind], stage, micro_batch


def inputs_of(kind: TaskKind, stage: int, micro_batch: int, per_copy: int) -> list[Event]:
    if kind == W:
        return [("gradient", stage, micro_batch)]
    if kind == F:
        return [("out", stage - 1, micro_batch)] if stage % per_copy else []
    own = [("out", stage, micro_batch)]
    is_last = (stage + 1) % per_copy == 0
    return own if is_last else [*own, ("gradient", stage + 1, micro_batch)]


def peak_of(tasks: Iterable[Task]) -> int:
    """Most chunks held: from a forward to the end of its backward or weight gradients."""
    held = peak = 0
    for kind, _, _ in tasks:
        held += {F: 1, B: -1, I: 0, W: -1}[kind]
        peak = max(peak, held)
    return peak


# A state of the search: how many tasks every micro-batch of each direction has behind it.
State = tuple[tuple[int, ...], tuple[int, ...]]


def least_makespan(num_ranks: int, per_direction: int) -> int:
    """Return the least makespan of two mirrored pipelines, tasks of one slot each.

    Searches everything: in every slot, every rank runs any task that is ready, or none. A
    micro-batch passes 2p tasks one after the other, so its progress says all about it, and those
    of one direction are alike.
    """
    done = 2 * num_ranks
    states: set[State] = {((0,) * per_direction, (0,) * per_direction)}
    slots = 0
    while ((done,) * per_direction, (done,) * per_direction) not in states:
        states = {following for state in states for following in _after_one_slot(state, num_ranks)}
        slots += 1
    return slots


def _after_one_slot(state: State, num_ranks: int) -> Iterator[State]:
    choices: list[list[tuple[int, int] | None]] = [[None] for _ in range(num_ranks)]
    for direction, progress in enumerate(state):
        for micro_batch, behind in enumerate(progress):
            if behind < 2 * num_ranks:
                position = min(behind, 2 * num_ranks - 1 - behind)
                rank = num_ranks - 1 - position if direction else position
                choices[rank].append((direction, micro_batch))
    for chosen in product(*choices):
        yield _moved(state, [task for task in chosen if task])


def _moved(state: State, tasks: Sequence[tuple[int, int]]) -> State:
    down, up = map(list, state)
    for direction, micro_batch in tasks:
        (up if direction else down)[micro_batch] += 1
    return tuple(sorted(down)), tuple(sorted(up))
