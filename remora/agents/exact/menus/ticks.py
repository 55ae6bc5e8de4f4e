"""One micro-batch as a row of ticks, the moments between which the memory level is constant.

The compute stream runs the forward of every unit, then, from the last unit to the first, what
restores its compressed tensors, what runs again, and its backward. An instruction has a tick for
its start, one for each of its operators, and one for its end, where what it releases is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from remora.schedule.chain import Chain

__all__ = ["Ticks"]


@dataclass(frozen=True)
class Ticks:
    """Where instructions and operators of a chain stand.

    Attributes:
        chain: per-unit tables of one micro-batch.
    """

    chain: Chain

    @cached_property
    def forward(self) -> tuple[int, ...]:
        """Starts of the forwards.  # [num_units]."""
        starts, tick = [], 0
        for unit in self.chain.units:
            starts.append(tick)
            tick += unit.forward[1] - unit.forward[0] + 3
        return tuple(starts)

    @cached_property
    def restore(self) -> tuple[int, ...]:
        """Starts of the restoring before the backwards; two ticks each.  # [num_units]."""
        starts = [0] * len(self.chain.units)
        tick = self.forward_end(len(starts) - 1) + 1
        for unit in reversed(self.chain.units):
            starts[unit.index] = tick
            tick += unit.backward[1] - unit.backward[0] + 6
        return tuple(starts)

    def rerun(self, unit: int) -> int:
        """Start of what runs again before the backward; two ticks."""
        return self.restore[unit] + 2

    def backward(self, unit: int) -> int:
        """Start of the backward."""
        return self.restore[unit] + 4

    def forward_end(self, unit: int) -> int:
        """End of the forward; the tick before it has what comes up after the last operator."""
        start, end = self.chain.units[unit].forward
        return self.forward[unit] + end - start + 2

    def backward_end(self, unit: int) -> int:
        """End of the backward."""
        start, end = self.chain.units[unit].backward
        return self.backward(unit) + end - start + 1

    @property
    def count(self) -> int:
        """Ticks of a micro-batch."""
        return self.backward_end(0) + 1

    @cached_property
    def of_op(self) -> tuple[int, ...]:
        """Tick at which an operator runs.  # [num_ops]."""
        ticks = [0] * len(self.chain.graph.ops)
        for unit in self.chain.units:
            for op in range(*unit.forward):
                ticks[op] = self.forward[unit.index] + 1 + op - unit.forward[0]
            for op in range(*unit.backward):
                ticks[op] = self.backward(unit.index) + 1 + op - unit.backward[0]
        return tuple(ticks)

    def after(self, num_ops: int) -> int:
        """First tick at which what is let go of after so many operators is gone."""
        if num_ops <= 0:
            return 0
        unit = self.chain.units[self.chain.graph.ops[num_ops - 1].unit]
        if num_ops == unit.forward[1]:
            return self.forward_end(unit.index)
        if num_ops == unit.backward[1]:
            return self.backward_end(unit.index)
        return self.of_op[num_ops]
