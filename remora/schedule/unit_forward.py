"""The forward of one unit, for the first time or again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remora.schedule.chain import ChainUnit
from remora.schedule.holders import EXPORT, PROGRAM, Holder
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.stage import UnitPlan
from remora.schedule.stage_walk import StageWalk

__all__ = ["UnitForward"]


class UnitForward(StageWalk):
    """Runs forwards of units and lets storages be held and let go of."""

    def _hold_rerun_inputs(self, plan: UnitPlan, span: tuple[int, int]) -> None:
        if plan.rerun is None:
            return
        for storage in plan.rerun.reads:
            key = self._current[storage]
            self._live.hold(key, Holder("region", *span))
            self._inputs.setdefault(span, {})[storage] = key

    def _run(
        self,
        unit: ChainUnit,
        span: tuple[int, int],
        generation: int,
        holders: Mapping[int, Holder],
        kind: InstructionKind,
        duration_s: float,
        plan: UnitPlan | None = None,
        upcoming: int | None = None,
        region_end: int = 0,
    ) -> None:
        """Run (again) the forward operators ``span``; ``holders`` keep what they name.

        Run again, the program holds what units before ``region_end`` still read.
        """
        made = [s for s in unit.created if self._chain.graph.storages[s].created < span[1]]
        for storage, holder in holders.items():
            if storage not in unit.created:
                self._live.hold(self._current[storage], holder)
        dying = [
            (storage, generation)
            for storage in unit.dropped_forward
            if self._live.held_only_by((storage, generation), PROGRAM)
        ]
        survivors = self._survivors(unit, made, holders, generation)
        transient = self._chain.transient_bytes(
            range(*span),
            unit,
            survivors,
            self._drop_times(dying),
            plan.arrivals(unit) if plan is not None else {},
            ends=self._chain.rerun_ends(unit.index) if generation else {},
        )
        if generation:
            self._let_go(survivors, unit.index, region_end)
        buffers = [self._add((s, generation), by) for s, by in survivors.items() if by]
        self._current.update({storage: (storage, generation) for storage in made})
        for storage, holder in holders.items():
            if holder.what == "save":
                self._saved[unit.index][storage] = self._current[storage]
        buffers += self._compress(unit, plan)
        dropped = [(storage, generation) for storage in unit.dropped_forward]
        following = unit.index + 1 if kind is InstructionKind.FORWARD else upcoming
        self._compute(
            kind,
            unit.index,
            duration_s,
            transient,
            allocates=buffers,
            releases=self._live.drop(dropped, PROGRAM),
            upcoming=following,
            weights_stay=following == unit.index,
            collective_s=self._chain.collective_s(range(*span)),
        )

    def _survivors(
        self,
        unit: ChainUnit,
        made: Sequence[int],
        holders: Mapping[int, Holder],
        generation: int,
    ) -> dict[int, set[Holder]]:
        """What outlives the unit of what it made, and for whom."""
        survivors: dict[int, set[Holder]] = {}
        for storage in made:
            by = {holders[storage]} if storage in holders else set()
            if self._chain.graph.storages[storage].dropped > unit.forward[1]:
                by.add(PROGRAM)
            if generation == 0 and storage in self._stage.exported:
                by.add(EXPORT)
            if by:
                survivors[storage] = by
        return survivors

    def _let_go(self, survivors: Mapping[int, set[Holder]], unit: int, region_end: int) -> None:
        """Take the program's hold off what no unit after ``unit`` in its region reads."""
        for storage, by in survivors.items():
            if not any(unit < reader < region_end for reader in self._chain.readers[storage]):
                by.discard(PROGRAM)

    def _compress(self, unit: ChainUnit, plan: UnitPlan | None) -> list[int]:
        if plan is None or not plan.compress:
            return []
        size = sum(plan.compressed_bytes)
        self._compressed[unit.index] = self._builder.buffer(size, MemoryKind.SAVED)
        return [self._compressed[unit.index]]
