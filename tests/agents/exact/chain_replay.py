"""An independent reading of the rules of the recompute-only chain problem.

`step` applies one operation to a state and `replay` runs a whole list, so that a plan can be
checked without trusting the solver. `cheapest` searches all legal operation sequences.

Rules. Held at any moment: the chain's first input, boundaries held by themselves, saved sets (each
holds the stage's output), one gradient. A boundary that served as input of an operation that left
it in place is a checkpoint: it stays until the backward that uses it.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

OPERATIONS = ("forward_save", "forward_checkpoint", "forward_forget", "loss", "backward")


class RuleBrokenError(Exception):
    """An operation that the rules do not allow in this state."""


@dataclass(frozen=True)
class State:
    """What is held: boundaries by themselves, which of them are checkpoints, saved sets."""

    alone: frozenset[int] = frozenset({0})
    pinned: frozenset[int] = frozenset({0})
    saved: frozenset[int] = frozenset()
    gradient: int | None = None
    loss_done: bool = False


def has_boundary(state: State, index: int) -> bool:
    return index in state.alone or (index - 1) in state.saved


def held_size(chain: dict[str, Sequence[float]], state: State) -> float:
    size = sum(chain["boundary_size"][i] for i in state.alone)
    size += sum(chain["saved_size"][i] for i in state.saved)
    if state.gradient is not None:
        size += chain["boundary_size"][state.gradient]
    return size


def require(condition: bool, kind: str, stage: int, reason: str) -> None:
    if not condition:
        raise RuleBrokenError(f"{kind} of stage {stage}: {reason}")


def step(
    chain: dict[str, Sequence[float]], state: State, kind: str, stage: int
) -> tuple[State, float, float]:
    """Return the next state, the time taken and the most memory held meanwhile."""
    if kind == "loss":
        return _loss(chain, state)
    if kind == "backward":
        return _backward(chain, state, stage)
    return _forward(chain, state, kind, stage)


def _loss(chain, state):
    last = len(chain["forward_time"])
    require(not state.loss_done, "loss", last, "runs once")
    require(has_boundary(state, last), "loss", last, "needs the last output")
    after = replace(state, gradient=last, loss_done=True)
    return after, 0.0, held_size(chain, after)


def _forward(chain, state, kind, stage):
    require(has_boundary(state, stage), kind, stage, "its input is not held")
    pinned = state.pinned | ({stage} & state.alone)
    if kind == "forward_save":
        require(stage not in state.saved, kind, stage, "is saved already")
        during = after = replace(state, saved=state.saved | {stage}, pinned=pinned)
    else:
        require(stage + 1 not in state.alone, kind, stage, "its output is held already")
        during = replace(state, alone=state.alone | {stage + 1})
        after = replace(during, pinned=pinned)
        if kind == "forward_forget":
            require(stage in state.alone, kind, stage, "its input is not held by itself")
            require(stage not in state.pinned, kind, stage, "would drop a checkpoint")
            after = replace(during, alone=during.alone - {stage})
    peak = held_size(chain, during) + chain["forward_workspace"][stage]
    return after, chain["forward_time"][stage], peak


def _backward(chain, state, stage):
    require(state.gradient == stage + 1, "backward", stage, "gradient of its output is missing")
    require(stage in state.saved, "backward", stage, "its saved set is missing")
    require(has_boundary(state, stage), "backward", stage, "its input is missing")
    peak = (
        held_size(chain, state) + chain["boundary_size"][stage] + chain["backward_workspace"][stage]
    )
    dropped = {stage, stage + 1} - {0}
    after = replace(
        state,
        gradient=stage,
        saved=state.saved - {stage},
        alone=state.alone - dropped,
        pinned=state.pinned - dropped,
    )
    return after, chain["backward_time"][stage], peak


def replay(
    chain: dict[str, Sequence[float]], operations: Iterable[tuple[str, int]]
) -> tuple[float, float]:
    """Run a list of (kind, stage); return its makespan and peak.

    Raises:
        RuleBrokenError: an operation is not allowed, or the step is not finished at the end.
    """
    state = State()
    makespan = 0.0
    peak = held_size(chain, state)
    for kind, stage in operations:
        state, time, meanwhile = step(chain, state, kind, stage)
        makespan += time
        peak = max(peak, meanwhile, held_size(chain, state))
    require(state.gradient == 0, "end", 0, "the gradient of the first input is missing")
    require(not state.saved and state.alone == {0}, "end", 0, "memory is still held")
    return makespan, peak


def cheapest(chain: dict[str, Sequence[float]], budget: float) -> float | None:
    """Least makespan over every legal operation sequence (Dijkstra over states)."""
    stages = len(chain["forward_time"])
    if held_size(chain, State()) > budget:
        return None
    order = itertools.count()
    queue = [(0.0, next(order), State())]
    settled: set[State] = set()
    while queue:
        makespan, _, state = heapq.heappop(queue)
        if state in settled:
            continue
        settled.add(state)
        if state.gradient == 0:
            return makespan
        for kind, stage in itertools.product(OPERATIONS, range(stages)):
            try:
                after, time, peak = step(chain, state, kind, stage)
            except RuleBrokenError:
                continue
            if max(peak, held_size(chain, after)) <= budget and after not in settled:
                heapq.heappush(queue, (makespan + time, next(order), after))
    return None
