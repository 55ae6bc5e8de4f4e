"""Scheduler ``dtr``: evict what is cheap, large and long unused, as memory runs out.

Source: Kirisame et al., "Dynamic tensor rematerialization", ICLR 2021, arXiv 2006.09616. There a
runtime evicts tensors while the model runs; here the step is walked through once, unit by unit,
and what was evicted becomes a schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded, check_one_device
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span
from remora.schedule.problem import Problem
from remora.schedule.program import InstructionKind
from remora.schedule.schedule import Schedule
from remora.simulator.simulate import simulate

__all__ = ["Dtr", "EvictionChain", "dtr_search", "evict", "eviction_chain"]

# Limits that bisection tries: the range of levels is cut to a 4096th.
_BISECTIONS = 12
# Staleness of what was just used; it is then the last to go, not infinitely dear.
_LEAST_STALENESS_S = 1e-12


@dataclass(frozen=True)
class Dtr:
    """Evict the saved tensors of the unit with the least cost over size and staleness.

    The cost of a unit is the time of its forward and of all evicted units next to it, which would
    have to run again with it. The limit at which eviction begins is not the budget, because the
    walk knows memory only roughly: it is the largest one, found by bisection, whose schedule fits
    in the simulator. Where none fits, the answer is the schedule of least memory that the other
    heuristics know.
    """

    one_device: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "dtr"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        check_one_device(self.name, problem.world_size)
        with suppress(SearchEnded):
            dtr_search(Space(problem), evaluator)
        return evaluator.answer(self.name)


def dtr_search(space: Space, evaluator: Evaluator) -> None:
    """Bisect for the largest limit whose schedule fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if evaluator.score(space.keep_all).feasible:
        return
    chain = eviction_chain(space)
    high = float(max((*chain.forward_bytes, *chain.backward_bytes)))
    low = high - sum(chain.saved_bytes) - sum(chain.border_bytes)
    for _ in range(_BISECTIONS):
        limit = (low + high) / 2
        plan = space.build(space.keep_all.memory.options, evict(chain, limit))
        low, high = (limit, high) if evaluator.score(plan).feasible else (low, limit)
    if evaluator.best is None:
        find_fitting(space, evaluator)


@dataclass(frozen=True, slots=True)
class EvictionChain:
    """What the walk knows of every unit.

    Attributes:
        forward_s, backward_s: seconds.  # [num_units]
        saved_bytes: what evicting the unit alone frees; 0 if it cannot be evicted.  # [num_units]
        border_bytes: what goes in addition if the unit before it is evicted too.  # [num_units]
        forward_bytes, backward_bytes: highest level in the unit's forward and backward, nothing
            evicted.  # [num_units]
    """

    forward_s: Sequence[float]
    backward_s: Sequence[float]
    saved_bytes: Sequence[int]
    border_bytes: Sequence[int]
    forward_bytes: Sequence[int]
    backward_bytes: Sequence[int]


def eviction_chain(space: Space) -> EvictionChain:
    """Tables of a problem; levels are the simulator's with everything kept."""
    chain = space.problem.chain
    timeline = simulate(space.problem, space.keep_all)
    levels: dict[tuple[InstructionKind, int], int] = {}
    for sample in timeline.memory[0]:
        instruction = timeline.events[sample.instruction].instruction
        key = (instruction.kind, instruction.unit)
        levels[key] = max(sample.level_bytes, levels.get(key, 0))
    units = chain.units
    free = [space.recompute(unit.index) != space.menus[unit.index][0] for unit in units]
    private = (chain.private_inputs(unit.index, unit.index + 1) for unit in units)
    return EvictionChain(
        forward_s=[unit.forward_s for unit in units],
        backward_s=[unit.backward_s for unit in units],
        saved_bytes=[u.own_saved_bytes * can for u, can in zip(units, free, strict=True)],
        border_bytes=[sum(map(chain.num_bytes, storages)) for storages in private],
        forward_bytes=[levels[InstructionKind.FORWARD, unit.index] for unit in units],
        backward_bytes=[levels[InstructionKind.BACKWARD, unit.index] for unit in units],
    )


def evict(chain: EvictionChain, limit_bytes: float) -> tuple[Span, ...]:
    """Walk through one step and evict whenever the level is above a limit.

    Args:
        chain: the units.
        limit_bytes: level above which something has to go, as long as there is anything.

    Returns:
        the ranges that ran again together, outer before inner; no two cross.
    """
    walk = _Walk(chain, limit_bytes)
    for unit in range(len(chain.forward_s)):
        walk.forward(unit)
    for unit in reversed(range(len(chain.forward_s))):
        walk.backward(unit)
    return tuple(walk.spans)


class _Walk:
    """The step as it runs.

    What is evicted in the backward was there all through the forward; in the schedule it is gone
    from the start, which only takes less memory.
    """

    def __init__(self, chain: EvictionChain, limit_bytes: float) -> None:
        self.spans: list[Span] = []
        self._chain = chain
        self._limit_bytes = limit_bytes
        self._now_s = 0.0
        self._used_s: dict[int, float] = {}
        self._evicted: set[int] = set()
        # The range with which a unit last ran again: evicted once more, it goes inside of that.
        self._inside: dict[int, Span] = {}

    def forward(self, unit: int) -> None:
        """Run a unit for the first time."""
        self._make_room(unit, self._chain.forward_bytes[unit])
        self._run(unit)

    def backward(self, unit: int) -> None:
        """Run the backward of a unit, after what it needs."""
        if unit in self._evicted:
            self._run_again(unit)
        self._make_room(unit, self._chain.backward_bytes[unit])
        self._now_s += self._chain.backward_s[unit]

    def _run(self, unit: int) -> None:
        self._now_s += self._chain.forward_s[unit]
        self._used_s[unit] = self._now_s

    def _run_again(self, unit: int) -> None:
        """Run a unit again with all evicted ones right before it."""
        start = unit
        while self._joined(start):
            start -= 1
        span = Span(start, unit + 1)
        self.spans.append(span)
        for again in range(start, unit + 1):
            self._evicted.remove(again)
            self._inside[again] = span
            self._run(again)

    def _make_room(self, unit: int, level_bytes: int) -> None:
        """Evict units before ``unit`` until a level that counts nothing evicted is low enough."""
        excess = level_bytes - self._limit_bytes
        excess -= sum(self._freed_bytes(other) for other in self._evicted if other < unit)
        while excess > 0:
            prices = self._prices(unit)
            if not prices:
                return
            _, cheapest = min(prices)
            self._evicted.add(cheapest)
            excess -= self._freed_bytes(cheapest)
            if self._joined(cheapest + 1):
                excess -= self._chain.border_bytes[cheapest + 1]

    def _prices(self, unit: int) -> list[tuple[float, int]]:
        """Cost over size and staleness of everything before ``unit`` that could go."""
        before_s = self._evicted_s(range(unit), -1)
        after_s = self._evicted_s(reversed(range(unit)), 1)
        prices = []
        for other in range(unit):
            num_bytes = self._chain.saved_bytes[other]
            if other in self._evicted or not num_bytes:
                continue
            cost_s = before_s[other] + self._chain.forward_s[other] + after_s[other]
            stale_s = max(self._now_s - self._used_s[other], _LEAST_STALENESS_S)
            prices.append((cost_s / (num_bytes * stale_s), other))
        return prices

    def _evicted_s(self, units: Iterable[int], back: int) -> dict[int, float]:
        """Seconds of the evicted units that reach up to each unit from one side."""
        found: dict[int, float] = {}
        run_s = 0.0
        for unit in units:
            found[unit] = run_s if self._alike(unit, unit + back) else 0.0
            run_s = found[unit] + self._chain.forward_s[unit] if unit in self._evicted else 0.0
        return found

    def _freed_bytes(self, unit: int) -> int:
        border = self._chain.border_bytes[unit] if self._joined(unit) else 0
        return self._chain.saved_bytes[unit] + border

    def _joined(self, unit: int) -> bool:
        """Whether a unit and the one before it are evicted and would run again together."""
        both = unit in self._evicted and unit - 1 in self._evicted
        return both and self._alike(unit, unit - 1)

    def _alike(self, unit: int, other: int) -> bool:
        return self._inside.get(unit) == self._inside.get(other)
