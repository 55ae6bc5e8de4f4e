"""Weights that are not on the device all the time: brought in for every use, or once a step."""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    duration_s: float
    num_bytes: int


class WeightFetch:
    """Brings weights in one unit ahead of their use on one rank.

    The weights of a unit are asked for where the unit before it starts, so that they come while
    it runs; their memory is taken there and given up after the use.

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
        self._coming: dict[int, int] = {}

    def use(self, unit: int, upcoming: int | None, micro_batch: int, stage: int) -> None:
        """Let the next compute instruction wait for a unit's weights; ask for the next ones.

        Args:
            unit: the unit that is about to run.
            upcoming: the unit that runs after it; None at the end of a task.
            micro_batch: for which.
            stage: in which stage.
        """
        for wanted in (unit, upcoming):
            if wanted is not None and wanted in self._units and wanted not in self._present:
                self._ask(wanted, micro_batch, stage)
        if unit in self._coming:
            self._builder.wait(self._coming.pop(unit))

    def done(self, unit: int) -> list[int]:
        """Give up a unit's weights; returns the buffers to release."""
        return [] if self._once else self._present.pop(unit, [])

    def _ask(self, unit: int, micro_batch: int, stage: int) -> None:
        fetch = self._units[unit]
        buffers = []
        if fetch.num_bytes:
            buffers = [self._builder.buffer(fetch.num_bytes, MemoryKind.WEIGHTS)]
            self._builder.allocate_early(buffers)
        self._present[unit] = buffers
        self._coming[unit] = self._builder.issue(
            self._kind, self._stream, unit, micro_batch, fetch.duration_s, stage=stage
        )
