"""The backward of one unit, and what has to be there for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import ChainUnit
from remora.schedule.holders import PROGRAM, Holder
from remora.schedule.program import InstructionKind
from remora.schedule.region_reruns import RegionReruns
from remora.schedule.stage import UnitPlan

__all__ = ["UnitBackward"]


class UnitBackward(RegionReruns):
    """Brings back what a unit saved and runs its backward."""

    def _prepare_backward(self, unit: ChainUnit) -> None:
        """Bring everything that a unit saved back: run again, fetched, restored."""
        region = self._stage.region_of(unit.index)
        if region is not None:
            self._materialise(region, unit.index)
            return
        span = (unit.index, unit.index + 1)
        self._copies.wait_for_arrival(Holder("copy", *span))
        plan = self._stage.plans[unit.index]
        if plan.compress:
            self._restore(unit, plan)
        if plan.rerun is not None:
            self._rerun_partly(unit, plan, span)

    def _restore(self, unit: ChainUnit, plan: UnitPlan) -> None:
        self._compute(
            InstructionKind.RESTORE,
            unit.index,
            plan.restore_s,
            plan.restore_rise_bytes,
            allocates=self._make_saved(unit, plan.compress),
            releases=[self._compressed.pop(unit.index)],
            upcoming=unit.index,
            weights_stay=True,
        )

    def _rerun_partly(self, unit: ChainUnit, plan: UnitPlan, span: tuple[int, int]) -> None:
        assert plan.rerun is not None
        inputs = self._inputs.pop(span, {}).values()
        self._compute(
            InstructionKind.RECOMPUTE,
            unit.index,
            plan.rerun.duration_s + plan.rerun_overhead_s,
            plan.rerun.transient_bytes,
            allocates=self._make_saved(unit, plan.rerun.fills),
            releases=self._live.drop(inputs, Holder("region", *span)),
            upcoming=unit.index,
            weights_stay=True,
            collective_s=self._chain.collective_s(plan.rerun.ops),
        )

    def _make_saved(self, unit: ChainUnit, storages: Sequence[int]) -> list[int]:
        """Note saved storages that exist again; returns their buffers."""
        keep = Holder("save", unit.index, unit.index + 1)
        generation = self._copies.next_generation()
        buffers = []
        for storage in storages:
            key = self._saved[unit.index][storage] = (storage, generation)
            buffers.append(self._add(key, {keep}))
        return buffers

    def _run_backward(self, unit: ChainUnit, last: bool) -> None:
        keep = Holder("save", unit.index, unit.index + 1)
        saved = self._saved.pop(unit.index)
        released = {s.storage: s.released for s in unit.saved}
        deaths = [
            (storage, released[storage])
            for storage, key in saved.items()
            if self._live.held_only_by(key, keep)
        ]
        dropped = [(storage, 0) for storage in unit.dropped_backward]
        deaths += self._drop_times(k for k in dropped if self._live.held_only_by(k, PROGRAM))
        survivors = [s for s in unit.created_backward if self._outlives(s, unit)]
        transient = self._chain.transient_bytes(range(*unit.backward), unit, survivors, deaths)
        releases = self._live.drop(saved.values(), keep) + self._live.drop(dropped, PROGRAM)
        gradients = self._rank.gradients.allocate(unit.index)
        self._compute(
            InstructionKind.BACKWARD,
            unit.index,
            unit.backward_s,
            transient,
            allocates=[*gradients, *self._add_backward(survivors)],
            releases=releases,
            upcoming=self._next_to_run(unit.index - 1),
            collective_s=self._chain.collective_s(range(*unit.backward)),
        )
        self._after_backward(unit, gradients, last)

    def _after_backward(self, unit: ChainUnit, gradients: list[int], last: bool) -> None:
        wait = self._rank.gradients.after_backward(
            unit.index, self._micro_batch, self._number, gradients, last
        )
        if wait is not None:
            self._rank.optimizer_waits.append(wait)

    def _add_backward(self, survivors: Iterable[int]) -> list[int]:
        kept = [s for s in survivors if not self._of_weight(s)]
        first = self._stage.start
        return [self._add((s, 0), {PROGRAM}, self._chain.handed_bytes(s, first)) for s in kept]

    def _outlives(self, storage: int, unit: ChainUnit) -> bool:
        if self._of_weight(storage):
            return self._rank.gradients.survive(unit.index)
        return self._chain.graph.storages[storage].dropped > unit.backward[1]

    def _of_weight(self, storage: int) -> bool:
        """Whether a storage is the gradient of a weight, or this stage's part of it."""
        role = self._chain.graph.storages[storage].role
        return role == GRADIENT or storage in self._stage.own_partials
