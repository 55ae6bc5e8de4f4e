"""Least-time plans of recomputation and host copies on a chain: the dynamic program's face.

The class of plans, its source and its rules stand in `remora.agents.exact.chains.offload_chain`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from remora.agents.exact.chains.offload_chain import OffloadChain, SlotMoves, to_moves
from remora.agents.exact.chains.rotor import (
    MAX_TABLE_BYTES,
    ChainTable,
    Group,
    Segment,
    build_table,
)
from remora.agents.exact.chains.rotor_chain import keep_all_need
from remora.errors import InvalidInputError

__all__ = ["Block", "OffloadSolution", "OffloadTable", "build_offload_table", "solve_offload_chain"]

# Two numbers and one index for every entry while the table is filled.
_ENTRY_BYTES = 8 + 8 + 4


@dataclass(frozen=True)
class Block:
    """One block of a plan.

    Attributes:
        group: a stage that saves, or a segment that is run again.
        way: 0 if it keeps all that it holds; else the stage's option, counted from 1, or 1 if the
            segment's input is moved.
        copied: parts copied out beside its forward, and back beside its backward.
        waited: parts waited for after the block: out after its forward, back before its backward.
    """

    group: Group
    way: int = 0
    copied: int = 0
    waited: int = 0

    @property
    def span(self) -> tuple[int, int]:
        """Half-open range of its stages."""
        if isinstance(self.group, Segment):
            return self.group.start, self.group.end
        return self.group, self.group + 1


@dataclass(frozen=True)
class OffloadSolution:
    """A plan for a chain.

    Attributes:
        makespan: time of one forward and backward, in the unit of the chain's times; None where
            no plan fits the budget.
        blocks: the plan, in order of the forward; empty where nothing fits.
    """

    makespan: float | None
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, eq=False)
class OffloadTable:
    """The filled table of one chain: plans for every budget up to the one it was built for.

    Attributes:
        problem: the problem.
        rotor: the filled table of its stages, which plans the inside of segments.
        moves: what can be moved, in parts of the slots of ``rotor``.
        times: least times as described in `offload_kernel`, `[L + 1, A + 1, num_slots + 1]`.
    """

    problem: OffloadChain
    rotor: ChainTable
    moves: SlotMoves
    times: npt.NDArray[np.float64]

    @property
    def part_size(self) -> float:
        """Size of the parts that copies are made of."""
        return float(self.rotor.unit) / self.moves.parts_per_slot

    def solve(self, budget: float) -> OffloadSolution:
        """Least-time plan whose peak stays within ``budget`` (unit of the chain's sizes).

        Raises:
            InvalidInputError: the budget is negative, not finite, or above the table's.
        """
        if not 0 <= budget <= self.rotor.budget:
            raise InvalidInputError(f"budget is {budget}; allowed: 0 to {self.rotor.budget}")
        chain = self.problem.chain
        available = Fraction(float(budget)) - Fraction(chain.boundary_size[0])
        if available >= keep_all_need(chain):
            kept_s = math.fsum((*self.problem.first_time, *chain.backward_time))
            return OffloadSolution(kept_s, tuple(Block(i) for i in range(chain.num_stages)))
        slots = math.floor(available / self.rotor.unit)
        if slots < 0 or not math.isfinite(self.times[0, 0, slots]):
            return OffloadSolution(None)
        return OffloadSolution(float(self.times[0, 0, slots]), self._blocks(slots))

    def _blocks(self, slots: int) -> tuple[Block, ...]:
        # Imported here because numba is slow to load and a solved table may never be asked.
        from remora.agents.exact.chains.offload_blocks import block_of
        from remora.agents.exact.chains.offload_kernel import best_block

        chain, moves = self.rotor.slots, self.moves
        blocks: list[Block] = []
        start, parts = 0, 0
        while start < self.problem.chain.num_stages:
            end, segment, way, copied = best_block(
                chain, moves, self.rotor.costs, self.times, start, parts, slots
            )
            if end == start:
                parts -= 1
                blocks[-1] = replace(blocks[-1], waited=blocks[-1].waited + 1)
                continue
            flight = -(-parts // moves.parts_per_slot)
            inside = self.rotor.groups(start, end - 1, slots - flight) if segment else ()
            group: Group = Segment(start, end, inside) if segment else start
            blocks.append(Block(group, way, copied))
            needs = block_of(chain, moves, start, end, segment, way)
            start, parts, slots = end, parts - copied + needs.added, slots + needs.shift
        blocks[-1] = replace(blocks[-1], waited=parts)
        return tuple(blocks)


def build_offload_table(
    problem: OffloadChain,
    budget: float,
    slots: int | None = None,
    parts_per_slot: int = 1,
    most_slots: int | None = None,
) -> OffloadTable:
    """Solve ``problem`` once for every budget up to ``budget``.

    Takes O(L^2 A^2 S) time at worst, usually near O(L^2 A S), and O(L (L + A) S) memory for L
    stages, S slots and A parts on their way at once.

    Args:
        problem: the problem.
        budget: largest budget, in the unit of the chain's sizes.
        slots: number of memory slots, as for `rotor.build_table`.
        parts_per_slot: parts of a slot that copies are made of; more of them fill the time beside
            short stages better.
        most_slots: most slots on their way to the host at once; None for no limit.

    Raises:
        InvalidInputError: a bad argument, or a table that would be too large.
    """
    from remora.agents.exact.chains.offload_kernel import fill_times

    for name, value in (("parts_per_slot", parts_per_slot), ("most_slots", most_slots)):
        if value is not None and value < 1:
            raise InvalidInputError(f"{name} is {value}; it must be 1 or larger")
    rotor = build_table(problem.chain, budget, slots)
    num_slots = rotor.costs.shape[1] - 1
    limit = num_slots if most_slots is None else min(most_slots, num_slots)
    moves = to_moves(problem, rotor.unit, parts_per_slot, limit)
    times = _empty_times(problem.chain.num_stages, int(moves.most.max()), num_slots)
    fill_times(rotor.slots, moves, rotor.costs, times)
    return OffloadTable(problem, rotor, moves, times)


def solve_offload_chain(
    problem: OffloadChain, budget: float, slots: int | None = None
) -> OffloadSolution:
    """Least-time plan of ``problem`` whose peak stays within ``budget``.

    Args:
        problem: the problem.
        budget: most memory held at any moment, the chain's first input included.
        slots: as in `build_offload_table`.

    Raises:
        InvalidInputError: as `build_offload_table`.
    """
    return build_offload_table(problem, budget, slots).solve(budget)


def _empty_times(stages: int, most_parts: int, num_slots: int) -> npt.NDArray[np.float64]:
    shape = (stages + 1, most_parts + 1, num_slots + 1)
    table_bytes = math.prod(shape) * _ENTRY_BYTES
    if table_bytes > MAX_TABLE_BYTES:
        raise InvalidInputError(
            f"{stages} stages, {most_parts} parts on their way and {num_slots} slots make tables "
            f"of {table_bytes} bytes; allowed are {MAX_TABLE_BYTES}"
        )
    return np.full(shape, np.inf)
