"""What the choices of a unit hold in memory, and from when to when.

Two plans may hold one storage for different units: it is there as long as one of them holds it.
What an option makes or fetches again is its own. These are the rules of ``remora.schedule.
stage_run`` for plans without longer groups, written as intervals of ticks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from remora.agents.exact.menus.model import MenuChoices
from remora.agents.exact.menus.ticks import Ticks
from remora.schedule.chain import ChainUnit
from remora.schedule.stage import UnitPlan

__all__ = ["OWN", "Hold", "holds_of"]

OWN = -1


@dataclass(frozen=True, slots=True)
class Hold:
    """Bytes that an option keeps in memory.

    Attributes:
        column: of the option.
        unit: its unit.
        storage: what it holds, as the forward made it; OWN for bytes that nobody else holds.
        num_bytes: size.
        start, end: half-open interval of ticks.
    """

    column: int
    unit: int
    storage: int
    num_bytes: int
    start: int
    end: int


def holds_of(choices: MenuChoices, ticks: Ticks, window: int, distance: int) -> list[Hold]:
    """All intervals of all options.

    Args:
        choices: columns.
        ticks: of their chain.
        window: offload window.
        distance: prefetch distance.
    """
    found: list[Hold] = []
    for unit in choices.chain.units:
        for index, plan in enumerate(choices.plans[unit.index]):
            column = choices.first_columns[unit.index] + index
            holder = _Holder(choices, ticks, unit, column, window, distance)
            if choices.reruns(unit.index, index):
                found += holder.whole(choices.moved_inputs(unit.index, index))
            else:
                found += holder.partial(plan)
    return [hold for hold in found if hold.num_bytes and hold.start < hold.end]


@dataclass(frozen=True, slots=True)
class _Holder:
    choices: MenuChoices
    ticks: Ticks
    unit: ChainUnit
    column: int
    window: int
    distance: int

    def whole(self, moved: Collection[int]) -> Iterator[Hold]:
        """The unit runs again from its inputs, some of which wait on the host."""
        ticks, unit = self.ticks, self.unit
        saved = {s.storage for s in unit.saved}
        for storage in unit.inputs:
            end = ticks.backward(unit.index)
            if storage in moved:
                yield self._shared(storage, self._copied)
                end = self._released_again(storage) if storage in saved else end
                size = self.choices.chain.num_bytes(storage)
                yield self._own(size, ticks.restore[self._fetched_with], end)
            else:
                yield self._shared(storage, self._released(storage) if storage in saved else end)
        for record in unit.saved:
            if record.created_here:
                yield self._again(record.storage, ticks.rerun(unit.index) + 1)
        yield self._while_rerun(self._whole_rise_bytes())

    def partial(self, plan: UnitPlan) -> Iterator[Hold]:
        """Every saved storage in its own way."""
        ticks, index = self.ticks, self.unit.index
        for storage in plan.keep:
            yield self._shared(storage, self._released(storage))
        for storage in plan.offload:
            yield self._shared(storage, self._copied)
            yield self._again(storage, ticks.restore[self._fetched_with])
        yield from self._compressed(plan)
        yield self._own(plan.restore_rise_bytes, ticks.restore[index], ticks.restore[index] + 1)
        if plan.rerun is not None:
            for storage in plan.rerun.reads:
                yield self._shared(storage, ticks.rerun(index) + 1)
            for storage in plan.rerun.fills:
                yield self._again(storage, ticks.rerun(index) + 1)
            yield self._while_rerun(plan.rerun.transient_bytes)

    def _compressed(self, plan: UnitPlan) -> Iterator[Hold]:
        ticks, unit = self.ticks, self.unit
        packed = {s.storage: s.packed for s in unit.saved}
        restored = ticks.restore[unit.index] + 1
        for storage, num_bytes in zip(plan.compress, plan.compressed_bytes, strict=True):
            ready = packed[storage]
            late = ready >= unit.forward[1]
            start = ticks.forward_end(unit.index) - 1 if late else ticks.of_op[ready]
            yield self._own(num_bytes, start, restored)
            yield self._again(storage, restored)

    @property
    def _copied(self) -> int:
        """Where the program waits for the copy of what the unit has made."""
        ticks, waiting = self.ticks, self.unit.index + self.window
        count = len(self.choices.chain.units)
        return ticks.forward[waiting] if waiting < count else ticks.restore[count - 1]

    @property
    def _fetched_with(self) -> int:
        """The unit with whose backward the copy back is issued."""
        return min(self.unit.index + self.distance, len(self.choices.chain.units) - 1)

    def _released(self, storage: int) -> int:
        """Where the backward lets go of a storage that the forward made.

        What the program holds too when the backward begins goes at its end.
        """
        if self.choices.chain.graph.storages[storage].dropped > self.unit.backward[0]:
            return self.ticks.backward_end(self.unit.index)
        return self._released_again(storage)

    def _released_again(self, storage: int) -> int:
        record = next(s for s in self.unit.saved if s.storage == storage)
        end = self.ticks.backward_end(self.unit.index)
        if record.released >= self.unit.backward[1]:
            return end
        return min(end, self.ticks.of_op[record.released])

    def _shared(self, storage: int, end: int) -> Hold:
        chain = self.choices.chain
        start = self.ticks.forward[self.unit.index]
        if chain.creator_unit[storage] == self.unit.index:
            start = self.ticks.of_op[chain.graph.storages[storage].created]
        size = chain.num_bytes(storage)
        return Hold(self.column, self.unit.index, storage, size, start, end)

    def _again(self, storage: int, start: int) -> Hold:
        size = self.choices.chain.num_bytes(storage)
        return self._own(size, start, self._released_again(storage))

    def _own(self, num_bytes: int, start: int, end: int) -> Hold:
        return Hold(self.column, self.unit.index, OWN, num_bytes, start, end)

    def _while_rerun(self, num_bytes: int) -> Hold:
        start = self.ticks.rerun(self.unit.index)
        return self._own(num_bytes, start, start + 1)

    def _whole_rise_bytes(self) -> int:
        """Largest rise of the level while the unit runs again up to its last saved tensor."""
        chain, unit = self.choices.chain, self.unit
        saved = {s.storage for s in unit.saved}
        storages = chain.graph.storages
        made = [s for s in unit.created if storages[s].created < unit.stop_op]
        survivors = [s for s in made if s in saved or storages[s].dropped > unit.forward[1]]
        ops = range(unit.forward[0], unit.stop_op)
        return chain.transient_bytes(ops, unit, survivors, (), ends=chain.rerun_ends(unit.index))
