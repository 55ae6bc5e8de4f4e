"""Weights and caches that are not on the device all the time: brought in for every use, or once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remora.schedule.builder import RankBuilder
from remora.schedule.program import InstructionKind, MemoryKind, Stream

__all__ = ["Fetch", "WeightFetch"]


@dataclass(frozen=True, slots=True)
class Fetch:
    """How the weights of one unit are brought in.

    Attributes:
        duration_s: seconds of the copy or the collective.
        num_bytes: device memory it fills; 0 if that memory is there all the time.
        cache_bytes: more of it, for keys and values, which is given up apart.
        store_s: seconds of writing back what a use adds to them.
    """

    duration_s: float
    num_bytes: int
    cache_bytes: int = 0
    store_s: float = 0.0


class WeightFetch:
    """Brings weights in one unit ahead of their use on one rank.

    The weights of a unit are asked for where the unit before it starts (in inference: a few
    before it), so that they come while it runs; their memory is taken there and given up after
    the use. The cache of a unit comes with them, and is given up once it was written back.

    Args:
        builder: receives the instructions.
        units: what is fetched, by unit.
        from_host: over the host link (streamed weights), else by a collective (sharded ones).
        once: only for the first use in a step.
    """

    def __init__(
        self, builder: RankBuilder, units: Mapping[int, Fetch], from_host: bool, once: bool
    ) -> None:
        self._builder = builder
        self._units = units
        self._once = once
        self._kind = InstructionKind.LOAD_WEIGHTS if from_host else InstructionKind.GATHER_WEIGHTS
        self._stream = Stream.H2D if from_host else Stream.COLLECTIVE
        self._present: dict[int, list[int]] = {}
        self._caches: dict[int, int] = {}
        self._coming: dict[int, int] = {}

    def use(self, unit: int, following: Sequence[int], micro_batch: int, stage: int) -> None:
        """Let the next compute instruction wait for a unit's weights; ask for the next ones.

        Args:
            unit: the unit that is about to run.
            following: units that run after it and are asked for now.
            micro_batch: for which.
            stage: in which stage.
        """
        for wanted in (unit, *following):
            if wanted in self._units and wanted not in self._present:
                self._ask(wanted, micro_batch, stage)
        if unit in self._coming:
            self._builder.wait(self._coming.pop(unit))

    def done(self, unit: int) -> list[int]:
        """Give up a unit's weights; returns the buffers to release."""
        return [] if self._once else self._present.pop(unit, [])

    def take_cache(self, unit: int) -> tuple[int, float] | None:
        """Hand over the buffer of a unit's cache, which the caller releases, if it was fetched.

        Returns:
            the buffer, and the seconds of writing back what the unit added.
        """
        buffer = self._caches.pop(unit, None)
        return None if buffer is None else (buffer, self._units[unit].store_s)

    def _ask(self, unit: int, micro_batch: int, stage: int) -> None:
        fetch = self._units[unit]
        buffers = []
        if fetch.num_bytes:
            buffers = [self._builder.buffer(fetch.num_bytes, MemoryKind.WEIGHTS)]
            self._builder.allocate_early(buffers)
        if fetch.cache_bytes:
            self._caches[unit] = self._builder.buffer(fetch.cache_bytes, MemoryKind.CACHE)
            self._builder.allocate_early([self._caches[unit]])
        self._present[unit] = buffers
        self._coming[unit] = self._builder.issue(
            self._kind, self._stream, unit, micro_batch, fetch.duration_s, stage=stage
        )
