"""How far the memory level rises while one unit runs, whatever earlier units hold.

All rises are upper bounds: what somebody else may hold too counts as if it stayed.
"""

from __future__ import annotations

from collections.abc import Collection

from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import Chain, ChainUnit
from remora.schedule.stage import UnitPlan
from remora.simulator.compiled.chain_arrays import crossing_index

__all__ = ["UnitLevels"]


class UnitLevels:
    """Rises of the level over the start of each run of a unit, results included; bytes.

    Args:
        chain: the units.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._crossing = frozenset(crossing_index(chain))

    def forward(self, unit: ChainUnit, plan: UnitPlan | None) -> int:
        """The first forward, under an option or as a part of a group."""
        held = () if plan is None else (*plan.keep, *plan.offload)
        ops = range(*unit.forward)
        return self._chain.transient_bytes(ops, unit, self._left(unit, held, unit.forward[1]), ())

    def rerun(self, unit: ChainUnit, keep: bool, stop: bool) -> int:
        """The forward run again in a group.

        Args:
            unit: what runs.
            keep: whether what its backward needs is kept.
            stop: whether it ends after the last saved tensor.
        """
        end = unit.stop_op if stop else unit.forward[1]
        held = [saved.storage for saved in unit.saved] if keep else ()
        ends = self._chain.rerun_ends(unit.index)
        survivors = self._left(unit, held, end)
        ops = range(unit.forward[0], end)
        return self._chain.transient_bytes(ops, unit, survivors, (), ends=ends)

    def backward(self, unit: ChainUnit, gradients_stay: bool) -> int:
        """The backward; gradients of weights are new, or are added to others at once."""
        storages = self._chain.graph.storages
        survivors = [
            s
            for s in unit.created_backward
            if (
                gradients_stay
                if storages[s].role == GRADIENT
                else storages[s].dropped > unit.backward[1]
            )
        ]
        ops = range(*unit.backward)
        return self._chain.transient_bytes(ops, unit, survivors, self._deaths(unit))

    def inside_bytes(self, storages: Collection[int]) -> int:
        """Bytes of the storages that nobody but their unit may hold."""
        return sum(self._chain.num_bytes(s) for s in storages if s not in self._crossing)

    def _deaths(self, unit: ChainUnit) -> list[tuple[int, int]]:
        """What is let go of during a backward for sure, and when.

        When it runs, all later units are done, and earlier ones hold nothing that it made.
        """
        graph = self._chain.graph
        first = graph.num_forward_ops
        deaths = [
            (saved.storage, saved.released)
            for saved in unit.saved
            if saved.created_here and graph.storages[saved.storage].dropped <= first
        ]
        for storage in unit.dropped_backward:
            record = graph.storages[storage]
            if record.created >= first and record.role != GRADIENT:
                deaths.append((storage, record.dropped))
        return deaths

    def _left(self, unit: ChainUnit, held: Collection[int], end: int) -> list[int]:
        """What outlives the unit of what it makes up to operator ``end``."""
        storages = self._chain.graph.storages
        return [
            s
            for s in unit.created
            if storages[s].created < end and (s in held or storages[s].dropped > unit.forward[1])
        ]
