"""Gradients of weights on one rank: where they live, and when they are reduced or moved out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from remora.schedule.builder import RankBuilder
from remora.schedule.parameters import StaticStorage
from remora.schedule.program import InstructionKind, MemoryKind, Stream

__all__ = ["GradientRules", "Gradients"]


@dataclass(frozen=True)
class GradientRules:
    """What happens to gradients after the backward of a unit.

    Attributes:
        replicas: data-parallel replicas.
        sharded: reduced to a shard after every backward (ZeRO 2 and 3).
        to_host: summed over the replicas and moved out after every backward.
        all_reduce_s, scatter_s, store_s: seconds for a number of bytes.
    """

    replicas: int
    sharded: bool
    to_host: bool
    all_reduce_s: Callable[[int], float]
    scatter_s: Callable[[int], float]
    store_s: Callable[[int], float]

    @property
    def leave(self) -> bool:
        """Whether whole gradients leave the device after every backward."""
        return self.sharded or self.to_host


@dataclass(slots=True)
class _Leaving:
    """Gradients on their way out: released when ``instruction`` is waited for."""

    instruction: int
    buffers: list[int]
    age: int = 0


@dataclass
class Gradients:
    """Gradient buffers of one rank.

    Gradients that leave are released before the second compute instruction after the one that
    made them, which waits until they are gone.

    Args:
        builder: receives the instructions.
        rules: what happens to them.
        by_unit: trained weights whose gradient is complete on this rank with a unit's backward.
    """

    builder: RankBuilder
    rules: GradientRules
    by_unit: Mapping[int, tuple[StaticStorage, ...]]
    _made: set[int] = field(default_factory=set)
    _leaving: list[_Leaving] = field(default_factory=list)
    _unfinished: Counter[int] = field(init=False)

    def __post_init__(self) -> None:
        """Count the stages of the rank that add to each gradient."""
        entries = (entry for found in self.by_unit.values() for entry in found)
        self._unfinished = Counter(entry.storage for entry in entries)

    def survive(self, unit: int) -> bool:
        """Whether the gradients that a backward of ``unit`` makes outlive it."""
        entries = self.by_unit.get(unit, ())
        return self.rules.leave or any(e.storage not in self._made for e in entries)

    def allocate(self, unit: int) -> list[int]:
        """Buffers that the backward of ``unit`` makes; whole gradients that leave come last."""
        entries = self.by_unit.get(unit, ())
        new = [e for e in entries if e.storage not in self._made]
        self._made.update(e.storage for e in new)
        size = sum(e.gradient_bytes for e in new)
        if not self.rules.leave:
            return [self.builder.buffer(size, MemoryKind.GRADIENTS)] if size else []
        whole = sum(e.gradient_bytes for e in entries)
        shard = -(-size // self.rules.replicas)
        buffers = []
        if self.rules.sharded and not self.rules.to_host and shard:
            buffers.append(self.builder.buffer(shard, MemoryKind.GRADIENTS))
        if whole:
            buffers.append(self.builder.buffer(whole, MemoryKind.GRADIENTS))
            self.builder.drop_gradients(buffers[-1:])
        return buffers

    def before_compute(self) -> None:
        """Wait for gradients that have had one compute instruction to leave."""
        for leaving in [entry for entry in self._leaving if entry.age >= 1]:
            self._end(leaving)
        for leaving in self._leaving:
            leaving.age += 1

    def after_backward(
        self, unit: int, micro_batch: int, stage: int, buffers: list[int], last: bool
    ) -> int | None:
        """Reduce or move what the backward of ``unit`` has made.

        Args:
            unit: whose backward ran.
            micro_batch: for which.
            stage: in which stage.
            buffers: from :meth:`allocate`.
            last: no later micro-batch adds to the stage's gradients.

        Returns:
            The instruction that the optimizer has to wait for, if any.
        """
        entries = self.by_unit.get(unit, ())
        if self.rules.leave:
            return self._move_out(entries, (unit, micro_batch), stage, buffers)
        return self._sum_complete(entries, (unit, micro_batch), stage) if last else None

    def _sum_complete(
        self, entries: Sequence[StaticStorage], where: tuple[int, int], stage: int
    ) -> int | None:
        """Sum over the replicas what no other stage of the rank adds to any more."""
        self._unfinished.subtract(e.storage for e in entries)
        size = sum(e.gradient_bytes for e in entries if not self._unfinished[e.storage])
        if self.rules.replicas == 1 or not size:
            return None
        kind, duration_s = InstructionKind.REDUCE_GRADIENTS, self.rules.all_reduce_s(size)
        return self.builder.issue(kind, Stream.COLLECTIVE, *where, duration_s, stage)

    def _move_out(
        self,
        entries: Sequence[StaticStorage],
        where: tuple[int, int],
        stage: int,
        buffers: list[int],
    ) -> int | None:
        size = sum(e.gradient_bytes for e in entries)
        if not size:
            return None
        rules, issue, end = self.rules, self.builder.issue, -1
        if rules.replicas > 1:
            kind = InstructionKind.REDUCE_GRADIENTS
            duration_s = rules.scatter_s(size) if rules.sharded else rules.all_reduce_s(size)
            end = issue(kind, Stream.COLLECTIVE, *where, duration_s, stage)
        if rules.to_host:
            moved = -(-size // rules.replicas) if rules.sharded else size
            waits = () if end < 0 else (end,)
            kind = InstructionKind.STORE_GRADIENTS
            end = issue(kind, Stream.D2H, *where, rules.store_s(moved), stage, waits=waits)
        self._leaving.append(_Leaving(end, buffers[-1:]))
        return end

    def flush(self) -> None:
        """Wait for everything that is still leaving."""
        for leaving in list(self._leaving):
            self._end(leaving)

    def _end(self, leaving: _Leaving) -> None:
        self._leaving.remove(leaving)
        self.builder.wait(leaving.instruction)
        self.builder.release_early(leaving.buffers)
