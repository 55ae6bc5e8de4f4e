"""Where gradients go on a rank that runs the whole model: bytes that stay, seconds of the ways."""

from __future__ import annotations

import itertools
from functools import cached_property

from remora.schedule.layout import Layout

__all__ = ["GradientMoves"]


class GradientMoves:
    """Sums over the replicas and copies to the host; all lists have one entry per unit.

    Args:
        layout: of a schedule without a pipeline.
    """

    def __init__(self, layout: Layout) -> None:
        self._units = layout.chain.units
        self._rules = layout.gradient_rules(0)
        self._overlap = layout.problem.hardware.copies_overlap
        entries = layout.gradient_units(0)
        self._bytes = [
            sum(entry.gradient_bytes for entry in entries.get(unit.index, ()))
            for unit in self._units
        ]

    @cached_property
    def kept_bytes(self) -> list[int]:
        """Gradients of a unit that stay on the device until the optimizer."""
        if self._rules.to_host:
            return [0] * len(self._bytes)
        return [-(-size // self._shards) for size in self._bytes]

    @property
    def sums_per_step(self) -> bool:
        """Whether gradients are summed once a step, not after every micro-batch."""
        return not self._rules.leave

    @cached_property
    def sums_s(self) -> list[float]:
        """Seconds of the collective that follows the backward of a unit."""
        if self._rules.replicas == 1:
            return [0.0] * len(self._bytes)
        time_s = self._rules.scatter_s if self._rules.sharded else self._rules.all_reduce_s
        return [time_s(size) if size else 0.0 for size in self._bytes]

    @cached_property
    def stores_s(self) -> list[float]:
        """Seconds of the copy to the host that follows every backward of a unit."""
        if not self._rules.to_host:
            return [0.0] * len(self._bytes)
        return [
            self._rules.store_s(-(-size // self._shards)) if size else 0.0 for size in self._bytes
        ]

    @property
    def last_s(self) -> float:
        """What follows the very last backward, however long that took to come."""
        return self.sums_s[0] + (self.stores_s[0] if self._overlap else 0.0)

    @property
    def late_s(self) -> float:
        """How much later than the last backward the last gradients are where they go."""
        late_s = self.last_s
        streams = [self.sums_s, *([self.stores_s] if self._overlap else [])]
        before_s = itertools.accumulate(unit.backward_s for unit in self._units[:-1])
        for unit, left_s in enumerate((0.0, *before_s)):
            for moves_s in streams:
                late_s = max(late_s, sum(moves_s[: unit + 1]) - left_s)
        return late_s

    @property
    def _shards(self) -> int:
        return self._rules.replicas if self._rules.sharded else 1
