"""Runs made by hand: an order of tasks, units of equal length, messages and host copies."""

from __future__ import annotations

from dataclasses import dataclass, field

from remora.schedule.orders import Order, TaskKind, model_copies, pipeline_order
from remora.schedule.program import Instruction, InstructionKind, MemoryKind, Stream
from remora.schedule.schedule import PipelineKind
from remora.simulator.timeline import MemorySample, TimedInstruction, Timeline

GIB = 2**30
UNIT_S = 1e-3
_KINDS = {
    TaskKind.FORWARD: InstructionKind.FORWARD,
    TaskKind.BACKWARD: InstructionKind.BACKWARD,
    TaskKind.BACKWARD_INPUT: InstructionKind.BACKWARD_INPUT,
    TaskKind.BACKWARD_WEIGHT: InstructionKind.BACKWARD_WEIGHT,
}
_SAVED_BYTES = {
    InstructionKind.FORWARD: GIB // 8,
    InstructionKind.BACKWARD: -GIB // 8,
    InstructionKind.BACKWARD_WEIGHT: -GIB // 8,
}
_Key = tuple[bool, int, int]
"""Whether it is a forward, stage and micro-batch of a task."""


def pipeline_run(
    kind: PipelineKind = PipelineKind.ONE_F_ONE_B,
    ranks: int = 4,
    micro_batches: int = 6,
    chunks: int = 1,
    units: int = 2,
    recompute: bool = True,
    offload: bool = False,
) -> Timeline:
    """Run ``units`` units per stage; a unit's forward takes a millisecond."""
    order = pipeline_order(kind, ranks, micro_batches, chunks)
    run = _Run(order, order.num_stages // model_copies(kind), units, recompute, offload)
    todo = [order.tasks_of(rank) for rank in range(ranks)]
    while any(todo):
        for rank in range(ranks):
            while todo[rank] and run.is_ready(todo[rank][0]):
                run.task(rank, *todo[rank].pop(0))
    for rank in range(ranks):
        run.compute(InstructionKind.OPTIMIZER, (rank, -1, -1, -1), 2 * UNIT_S)
    return run.timeline()


@dataclass
class _Run:
    """The run so far; a place is (rank, unit, micro-batch, stage)."""

    order: Order
    stages_per_copy: int
    units: int
    recompute: bool
    offload: bool
    events: list[TimedInstruction] = field(default_factory=list)
    free_at: dict[tuple[int, Stream], float] = field(default_factory=dict)
    done: dict[_Key, int] = field(default_factory=dict)
    saved: dict[int, int] = field(default_factory=dict)
    samples: dict[int, list[MemorySample]] = field(default_factory=dict)

    def is_ready(self, task: tuple[TaskKind, int, int]) -> bool:
        before = self._before(*task)
        return before is None or before in self.done

    def task(self, rank: int, kind: TaskKind, stage: int, micro_batch: int) -> None:
        forward = kind is TaskKind.FORWARD
        first = stage % self.stages_per_copy * self.units
        units = list(range(first, first + self.units))
        wait = self._receive(rank, kind, stage, micro_batch)
        for unit in units if forward else reversed(units):
            place = (rank, unit, micro_batch, stage)
            if self.recompute and kind in (TaskKind.BACKWARD, TaskKind.BACKWARD_INPUT):
                self.compute(InstructionKind.RECOMPUTE, place, waits=wait)
                wait = ()
            time_s = UNIT_S * (2 if kind is TaskKind.BACKWARD else 1)
            index = self.compute(_KINDS[kind], place, time_s, wait)
            wait = ()
            if self.offload and kind is not TaskKind.BACKWARD_WEIGHT:
                self._copy(place, forward, index)
        if kind is not TaskKind.BACKWARD_WEIGHT:
            self.done[forward, stage, micro_batch] = index

    def compute(
        self,
        kind: InstructionKind,
        place: tuple[int, int, int, int],
        time_s: float = UNIT_S,
        waits: tuple[int, ...] = (),
    ) -> int:
        rank = place[0]
        index = self._add(kind, Stream.COMPUTE, place, time_s, waits)
        event = self.events[index]
        samples = self.samples.setdefault(rank, [])
        samples.append(self._sample(rank, event.start_s, index, GIB // 16))
        self.saved[rank] = self.saved.get(rank, 0) + _SAVED_BYTES.get(kind, 0)
        samples.append(self._sample(rank, event.end_s, index, 0))
        return index

    def timeline(self) -> Timeline:
        memory = tuple(tuple(self.samples[rank]) for rank in range(self.order.num_ranks))
        highest = [max(samples, key=lambda sample: sample.level_bytes) for samples in memory]
        return Timeline(
            step_time_s=max(event.end_s for event in self.events),
            peak_bytes=tuple(sample.level_bytes for sample in highest),
            host_peak_bytes=tuple(self._host_peak(rank) for rank in range(len(memory))),
            peak_breakdown=max(highest, key=lambda sample: sample.level_bytes).by_kind,
            events=tuple(self.events),
            memory=memory,
        )

    def _before(self, kind: TaskKind, stage: int, micro_batch: int) -> _Key | None:
        """What has to run on another stage first."""
        position = stage % self.stages_per_copy
        if kind is TaskKind.FORWARD:
            return (True, stage - 1, micro_batch) if position else None
        if kind is TaskKind.BACKWARD_WEIGHT:
            return None
        last = position == self.stages_per_copy - 1
        return (True, stage, micro_batch) if last else (False, stage + 1, micro_batch)

    def _receive(self, rank: int, kind: TaskKind, stage: int, micro_batch: int) -> tuple[int, ...]:
        before = self._before(kind, stage, micro_batch)
        if before is None:
            return ()
        cause, source = self.done[before], int(self.order.stage_rank[before[1]])
        if source == rank:
            return (cause,)
        there, here = (source, -1, micro_batch, before[1]), (rank, -1, micro_batch, stage)
        sent = self._add(InstructionKind.SEND, Stream.SEND, there, 0.2 * UNIT_S, (cause,))
        received = self._add(InstructionKind.RECEIVE, Stream.RECV, here, 0.1 * UNIT_S, (sent,))
        return (received,)

    def _copy(self, place: tuple[int, int, int, int], down: bool, after: int) -> None:
        kind = InstructionKind.OFFLOAD if down else InstructionKind.PREFETCH
        stream = Stream.D2H if down else Stream.H2D
        size = GIB // 8 if down else -GIB // 8
        self._add(kind, stream, place, 0.7 * UNIT_S, (after,), size)

    def _add(
        self,
        kind: InstructionKind,
        stream: Stream,
        place: tuple[int, int, int, int],
        time_s: float,
        waits: tuple[int, ...],
        host_bytes: int = 0,
    ) -> int:
        rank, unit, micro_batch, stage = place
        start = self.free_at.get((rank, stream), 0.0)
        start = max([start, *(self.events[other].end_s for other in waits)])
        instruction = Instruction(
            kind,
            rank,
            stream,
            unit,
            micro_batch,
            time_s,
            waits=waits,
            host_bytes=host_bytes,
            stage=stage,
        )
        self.events.append(TimedInstruction(instruction, start, start + time_s))
        self.free_at[rank, stream] = start + time_s
        return len(self.events) - 1

    def _sample(self, rank: int, time_s: float, index: int, workspace: int) -> MemorySample:
        by_kind = {
            MemoryKind.WEIGHTS: GIB // 2,
            MemoryKind.OPTIMIZER: GIB,
            MemoryKind.SAVED: self.saved.get(rank, 0),
            MemoryKind.WORKSPACE: workspace,
        }
        return MemorySample(time_s, sum(by_kind.values()), by_kind, index)

    def _host_peak(self, rank: int) -> int:
        level = peak = 0
        for event in self.events:
            if event.instruction.rank == rank:
                level += event.instruction.host_bytes
                peak = max(peak, level)
        return peak
