"""The two halves of a unit's backward."""

from __future__ import annotations

from collections.abc import Sequence

from remora.schedule.chain import ChainUnit
from remora.schedule.holders import PROGRAM, Holder, Key
from remora.schedule.program import InstructionKind
from remora.schedule.unit_backward import UnitBackward

__all__ = ["UnitHalves"]


class UnitHalves(UnitBackward):
    """Runs gradients of inputs and gradients of weights apart."""

    def _run_backward_input(self, unit: ChainUnit) -> None:
        """Gradients of the unit's inputs; everything saved stays for the other half."""
        split = self._chain.split(unit.index)
        later = Holder("weights", unit.index, unit.index + 1)
        dropped = [(storage, 0) for storage in unit.dropped_backward]
        self._carry(unit, later, [(s, 0) for s in split.carried])
        deaths = self._drop_times(k for k in dropped if self._live.held_only_by(k, PROGRAM))
        made = {
            s
            for op in split.inputs.ops
            for s in self._chain.made_by(op)
            if s not in split.inputs.absent
        }
        end = unit.backward[1]
        storages = self._chain.graph.storages
        survivors = [
            s
            for s in unit.created_backward
            if s in made and (s in split.carried or storages[s].dropped > end)
        ]
        transient = self._chain.transient_bytes(
            split.inputs.ops, unit, survivors, deaths, absent=split.inputs.absent
        )
        releases = self._live.drop(dropped, PROGRAM)
        buffers = self._add_backward(survivors)
        self._carry(unit, later, [(s, 0) for s in survivors if s in split.carried])
        self._free_carried(survivors, unit)
        self._compute(
            InstructionKind.BACKWARD_INPUT,
            unit.index,
            self._chain.half_time_s(split.inputs),
            transient,
            allocates=buffers,
            releases=releases,
            upcoming=self._next_to_run(unit.index - 1),
            collective_s=self._chain.collective_s(split.inputs.ops, split.inputs.shares),
        )

    def _free_carried(self, survivors: Sequence[int], unit: ChainUnit) -> None:
        """The program lets go of what only the other half reads."""
        storages = self._chain.graph.storages
        ended = [(s, 0) for s in survivors if storages[s].dropped <= unit.backward[1]]
        self._live.drop(ended, PROGRAM)

    def _carry(self, unit: ChainUnit, holder: Holder, keys: Sequence[Key]) -> None:
        for key in keys:
            if self._live.holds(key):
                self._live.hold(key, holder)
                self._carried.setdefault(unit.index, []).append(key)

    def _run_backward_weight(self, unit: ChainUnit, last: bool) -> None:
        """Gradients of the unit's weights; then its saved tensors go."""
        span = (unit.index, unit.index + 1)
        split = self._chain.split(unit.index)
        survivors = [
            s
            for op in split.weights.ops
            for s in self._chain.made_by(op)
            if s not in split.weights.absent and self._outlives(s, unit)
        ]
        transient = self._chain.transient_bytes(
            split.weights.ops, unit, survivors, (), absent=split.weights.absent
        )
        saved = self._saved.pop(unit.index).values()
        releases = self._live.drop(saved, Holder("save", *span))
        releases += self._live.drop(self._carried.pop(unit.index, []), Holder("weights", *span))
        summed = self._chain.partial_gradients.keys() & set(unit.dropped_backward)
        releases += self._live.drop([(storage, 0) for storage in summed], PROGRAM)
        gradients = self._rank.gradients.allocate(unit.index)
        self._compute(
            InstructionKind.BACKWARD_WEIGHT,
            unit.index,
            self._chain.half_time_s(split.weights),
            transient,
            allocates=[*gradients, *self._add_backward(survivors)],
            releases=releases,
            upcoming=unit.index - 1,
            collective_s=self._chain.collective_s(split.weights.ops, split.weights.shares),
        )
        self._after_backward(unit, gradients, last)
