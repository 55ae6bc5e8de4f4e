"""Optimal recomputation of a chain under a memory budget: the rotor dynamic program.

Source: Beaumont, Eyraud-Dubois, Herrmann, Joly, Shilova, "Optimal checkpointing for heterogeneous
chains: how to train deep neural networks with limited memory", arXiv 1911.13214. The optimum is
taken over persistent schedules: a checkpoint, once taken, stays until the backward that uses it.
"""

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TypeAlias, Union

import numpy as np
import numpy.typing as npt

from remora.agents.exact.chains.rotor_chain import (
    Chain,
    SlotChain,
    common_unit,
    keep_all_need,
    to_slots,
)
from remora.errors import InvalidInputError

__all__ = [
    "Chain",
    "ChainSolution",
    "ChainTable",
    "Instruction",
    "Kind",
    "Segment",
    "build_table",
    "solve_chain",
]

# Above this many slots whole sizes are rounded to DEFAULT_SLOTS, as sizes without a common unit.
MAX_EXACT_SLOTS = 2000
DEFAULT_SLOTS = 500
MAX_STAGES = 800
MAX_TABLE_BYTES = 2 * 1024**3


class Kind(Enum):
    """What one instruction does.

    FORWARD_SAVE keeps everything the stage saves; FORWARD_CHECKPOINT keeps input and output;
    FORWARD_FORGET keeps the output and drops the input; LOSS adds the gradient of the last
    output; BACKWARD turns the gradient of the output into that of the input.
    """

    FORWARD_SAVE = "forward_save"
    FORWARD_CHECKPOINT = "forward_checkpoint"
    FORWARD_FORGET = "forward_forget"
    LOSS = "loss"
    BACKWARD = "backward"


@dataclass(frozen=True)
class Instruction:
    """One operation on one stage; LOSS carries the last stage."""

    kind: Kind
    stage: int


@dataclass(frozen=True)
class Segment:
    """Stages ``[start, end)``, recomputed from one checkpoint: the input of ``start``.

    ``children`` cover the same stages and say what happens when the segment runs again from that
    checkpoint: a stage index is saved, a nested segment is run through once more and recomputed
    later. The last stage of a segment is always saved when the segment runs again.
    """

    start: int
    end: int
    children: tuple["Group", ...]


Group: TypeAlias = Union[int, Segment]  # noqa: UP007 - Segment refers to it before it exists


@dataclass(frozen=True)
class ChainSolution:
    """A plan for a chain.

    Attributes:
        makespan: time of all instructions, in the unit of the chain's times; None where no plan
            fits the budget.
        instructions: what to run, in order; empty where nothing fits.
        groups: the same plan as a tree over all stages; an index is a stage saved in the first
            forward, a `Segment` is recomputed.
        exact: whether sizes were whole slots, so that the plan is optimal; else sizes were
            rounded up, and the plan is feasible but possibly slower than the optimum.
    """

    makespan: float | None
    instructions: tuple[Instruction, ...]
    groups: tuple[Group, ...] = ()
    exact: bool = True


@dataclass(frozen=True, eq=False)
class ChainTable:
    """The filled table of one chain: plans for every budget up to the one it was built for.

    Attributes:
        chain: the problem.
        budget: largest budget that was asked for, in the unit of the chain's sizes.
        unit: size of one memory slot.
        exact: whether every size is a whole number of slots.
        slots: the chain in slots.
        costs: least times as described in `rotor_kernel`, `[L (L + 1) / 2, num_slots + 1]`.
    """

    chain: Chain
    budget: float
    unit: Fraction
    exact: bool
    slots: SlotChain
    costs: npt.NDArray[np.float64]

    def solve(self, budget: float) -> ChainSolution:
        """Least-time plan whose peak stays within ``budget`` (unit of the chain's sizes).

        Budgets above the table's own are answered where nothing needs recomputing.

        Raises:
            InvalidInputError: the budget is negative, not finite, or above the table's.
        """
        _check_budget(budget)
        available = Fraction(float(budget)) - Fraction(self.chain.boundary_size[0])
        stages = self.chain.num_stages
        if available >= keep_all_need(self.chain):
            return _solution(self.chain, tuple(range(stages)), exact=True)
        if budget > self.budget:
            raise InvalidInputError(
                f"budget is {budget}; this table answers budgets up to {self.budget}"
            )
        slots = math.floor(available / self.unit)
        if slots < 0 or not math.isfinite(self.costs[stages - 1, slots]):
            return ChainSolution(None, (), exact=self.exact)
        return _solution(self.chain, self.groups(0, stages - 1, slots), self.exact)

    def smallest_budget(self) -> float | None:
        """Smallest budget that `solve` can meet, or None where even the table's is too small."""
        first_input = Fraction(self.chain.boundary_size[0])
        candidates = [first_input + keep_all_need(self.chain)]
        feasible = np.flatnonzero(np.isfinite(self.costs[self.chain.num_stages - 1]))
        if feasible.size:
            candidates.append(first_input + int(feasible[0]) * self.unit)
        smallest = min(candidates)
        if smallest > Fraction(self.budget):
            return None
        rounded = float(smallest)
        return rounded if Fraction(rounded) >= smallest else math.nextafter(rounded, math.inf)

    def groups(self, start: int, last: int, slots: int) -> tuple[Group, ...]:
        """The plan of stages ``start`` to ``last`` with ``slots`` at hand; these must suffice."""
        # Imported here because numba is slow to load and a solved table may never be asked.
        from remora.agents.exact.chains.rotor_kernel import best_split

        groups: list[Group] = []
        while start <= last:
            split = best_split(self.slots, self.costs, start, last, slots)
            if split == start:
                groups.append(start)
                slots -= int(self.slots.saved[start])
                start += 1
                continue
            children = self.groups(start, split - 1, slots)
            groups.append(Segment(start, split, children))
            slots -= int(self.slots.held[split])
            start = split
        return tuple(groups)


def build_table(chain: Chain, budget: float, slots: int | None = None) -> ChainTable:
    """Solve ``chain`` once for every budget up to ``budget``.

    Takes O(L^3 S) time and O(L^2 S) memory for L stages and S slots.

    Args:
        chain: the problem.
        budget: largest budget, in the unit of the chain's sizes.
        slots: number of memory slots to which sizes are rounded up. None: exact where the sizes
            are whole multiples of a common unit and at most 2000 of them are in play, else 500.

    Raises:
        InvalidInputError: a bad budget or number of slots, or a table that would be too large.
    """
    from remora.agents.exact.chains.rotor_kernel import fill_costs

    _check_budget(budget)
    if slots is not None and slots < 1:
        raise InvalidInputError(f"slots is {slots}; it must be 1 or larger, or None")
    available = Fraction(float(budget)) - Fraction(chain.boundary_size[0])
    span = max(Fraction(0), min(available, keep_all_need(chain)))
    unit = common_unit(chain)
    exact = slots is None and span / unit <= MAX_EXACT_SLOTS
    if not exact:
        unit = span / (slots or DEFAULT_SLOTS) or unit
    num_slots = math.floor(span / unit)
    rounded = to_slots(chain, unit, num_slots)
    costs = _empty_table(chain.num_stages, num_slots)
    fill_costs(rounded, costs)
    return ChainTable(chain, budget, unit, exact, rounded, costs)


def solve_chain(chain: Chain, budget: float, slots: int | None = None) -> ChainSolution:
    """Least-time persistent plan of ``chain`` whose peak stays within ``budget``.

    Args:
        chain: the problem.
        budget: most memory held at any moment, the chain's first input included.
        slots: as in `build_table`.

    Returns:
        The plan; its makespan is None where nothing fits.

    Raises:
        InvalidInputError: as `build_table`.
    """
    return build_table(chain, budget, slots).solve(budget)


def _check_budget(budget: float) -> None:
    if not (math.isfinite(budget) and budget >= 0):
        raise InvalidInputError(f"budget is {budget}; it must be a finite number, 0 or larger")


def _empty_table(stages: int, num_slots: int) -> npt.NDArray[np.float64]:
    rows = stages * (stages + 1) // 2
    table_bytes = rows * (num_slots + 1) * 8
    if stages > MAX_STAGES or table_bytes > MAX_TABLE_BYTES:
        raise InvalidInputError(
            f"the chain has {stages} stages at {num_slots} slots, a table of {table_bytes} bytes; "
            f"allowed are {MAX_STAGES} stages and {MAX_TABLE_BYTES} bytes"
        )
    return np.full((rows, num_slots + 1), np.inf)


def _solution(chain: Chain, groups: tuple[Group, ...], exact: bool) -> ChainSolution:
    last = chain.num_stages - 1
    forward, backward = _forward(groups), _backward(groups)
    instructions = (*forward, Instruction(Kind.LOSS, last), *backward)
    makespan = math.fsum(_time(chain, instruction) for instruction in instructions)
    return ChainSolution(makespan, instructions, groups, exact)


def _time(chain: Chain, instruction: Instruction) -> float:
    if instruction.kind is Kind.LOSS:
        return 0.0
    if instruction.kind is Kind.BACKWARD:
        return chain.backward_time[instruction.stage]
    return chain.forward_time[instruction.stage]


def _forward(groups: tuple[Group, ...]) -> list[Instruction]:
    """First run over ``groups``: indices save, segments leave only their input behind."""
    instructions = []
    for group in groups:
        if isinstance(group, Segment):
            instructions.append(Instruction(Kind.FORWARD_CHECKPOINT, group.start))
            for stage in range(group.start + 1, group.end):
                instructions.append(Instruction(Kind.FORWARD_FORGET, stage))
        else:
            instructions.append(Instruction(Kind.FORWARD_SAVE, group))
    return instructions


def _backward(groups: tuple[Group, ...]) -> list[Instruction]:
    """Backward over ``groups`` after `_forward`: a segment first runs its children again."""
    instructions = []
    for group in reversed(groups):
        if isinstance(group, Segment):
            instructions += _forward(group.children) + _backward(group.children)
        else:
            instructions.append(Instruction(Kind.BACKWARD, group))
    return instructions
