"""Lower a schedule to a program: what runs when, and which buffers live from where to where."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from remora.schedule.builder import Ledger, RankBuilder
from remora.schedule.gradients import Gradients
from remora.schedule.layout import Layout
from remora.schedule.optimizer_step import lower_optimizer
from remora.schedule.orders import TaskKind
from remora.schedule.problem import Problem
from remora.schedule.program import InstructionKind, MemoryKind, Program, Stream
from remora.schedule.rank_context import RankContext
from remora.schedule.schedule import Schedule
from remora.schedule.stage_run import StageRun
from remora.schedule.weight_fetch import WeightFetch

__all__ = ["lower", "resident_bytes"]


def lower(problem: Problem, schedule: Schedule) -> Program:
    """Lower a valid schedule.

    The step is: every micro-batch forward and backward through its stages, the sums of gradients
    over replicas and shared weights, the optimizer step, and the release of all gradients.
    Optimizer state exists before it begins. One replica is lowered: all run alike.

    In inference it is a pass: every micro-batch forward through its stages.
    """
    layout = Layout(problem, schedule)
    return _Lowering(layout).run()


def resident_bytes(layout: Layout, rank: int) -> Mapping[MemoryKind, int]:
    """Bytes of one rank that last the whole step: weights, batch, receive buffers, state, cache."""
    state = layout.state_of(rank)
    resident = {
        MemoryKind.WEIGHTS: state.weights_bytes,
        MemoryKind.BATCH: layout.input_bytes(rank),
        MemoryKind.OPTIMIZER: state.optimizer_bytes,
    }
    received = layout.receive_bytes(rank)
    cache = layout.cache_bytes(rank, on_host=False)
    return (
        resident
        | ({MemoryKind.RECEIVE: received} if received else {})
        | ({MemoryKind.CACHE: cache} if cache else {})
    )


class _Lowering:
    """Interleaves the tasks of all ranks so that every instruction waits for earlier ones only."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._ledger = Ledger()
        self._ranks = [self._context(rank) for rank in range(layout.num_ranks)]
        self._runs: dict[tuple[int, int], StageRun] = {}
        self._sent: dict[tuple[bool, int, int, int], int] = {}
        self._ended: set[tuple[bool, int, int]] = set()

    def run(self) -> Program:
        layout = self._layout
        queues = [deque(layout.order.tasks_of(rank)) for rank in range(layout.num_ranks)]
        while any(queues):
            progressed = [self._advance(rank, queue) for rank, queue in enumerate(queues)]
            assert any(progressed), "an order of tasks in which every rank waits"
        for rank in self._ranks:
            rank.gradients.flush()
        shared = self._sum_shared_gradients()
        for number, rank in enumerate(self._ranks):
            lower_optimizer(layout, number, rank, shared.get(number, []))
        return self._ledger.program(
            [resident_bytes(layout, rank) for rank in range(layout.num_ranks)],
            [
                layout.state_of(rank).host_bytes + layout.cache_bytes(rank, on_host=True)
                for rank in range(layout.num_ranks)
            ],
        )

    def _context(self, rank: int) -> RankContext:
        layout = self._layout
        builder = RankBuilder(self._ledger, rank, layout.problem.hardware.copies_overlap)
        return RankContext(
            builder=builder,
            rates=layout.host_rates,
            gradients=Gradients(builder, layout.gradient_rules(rank), layout.gradient_units(rank)),
            fetches=tuple(
                WeightFetch(builder, fetches, from_host, once)
                for fetches, from_host, once in layout.fetches(rank)
            ),
        )

    def _advance(self, rank: int, queue: deque[tuple[TaskKind, int, int]]) -> bool:
        """Lower the tasks of a rank up to the first whose input is not there yet."""
        before = len(queue)
        while queue and self._ready(*queue[0]):
            self._lower_task(rank, *queue.popleft())
        return len(queue) < before

    def _ready(self, kind: TaskKind, stage: int, micro_batch: int) -> bool:
        backward = kind is not TaskKind.FORWARD
        return kind is TaskKind.BACKWARD_WEIGHT or all(
            (backward, source, micro_batch) in self._ended
            for source in self._layout.sources(stage, backward)
        )

    def _lower_task(self, rank: int, kind: TaskKind, stage: int, micro_batch: int) -> None:
        layout, context = self._layout, self._ranks[rank]
        context.builder.begin_task()
        if kind is not TaskKind.BACKWARD_WEIGHT:
            self._receive(rank, kind is not TaskKind.FORWARD, stage, micro_batch)
        place = (stage, micro_batch)
        last = layout.is_last(stage, micro_batch)
        if kind is TaskKind.FORWARD:
            run = StageRun(context, layout.stage(stage), micro_batch, stage)
            self._runs[place] = run
            run.forward()
        elif kind is TaskKind.BACKWARD_WEIGHT:
            self._runs.pop(place).backward_weight(last)
            return
        elif kind is TaskKind.BACKWARD_INPUT:
            self._runs[place].backward(last, halves=True)
        else:
            self._runs.pop(place).backward(last)
        self._send(rank, kind is not TaskKind.FORWARD, stage, micro_batch)

    def _receive(self, rank: int, backward: bool, stage: int, micro_batch: int) -> None:
        builder = self._ranks[rank].builder
        for source in self._layout.sources(stage, backward):
            send = self._sent.get((backward, source, stage, micro_batch))
            if send is not None:
                builder.receive(send, micro_batch, stage)

    def _send(self, rank: int, backward: bool, stage: int, micro_batch: int) -> None:
        layout = self._layout
        self._ended.add((backward, stage, micro_batch))
        for target, num_bytes in layout.targets(stage, backward).items():
            receiver = layout.rank_of(target)
            if receiver == rank:
                continue
            duration_s = layout.links.message_s(rank, receiver, num_bytes)
            self._sent[backward, stage, target, micro_batch] = self._ranks[rank].builder.send(
                micro_batch, stage, duration_s
            )

    def _sum_shared_gradients(self) -> Mapping[int, list[int]]:
        """Sum gradients of weights that several ranks hold; returns what each has to wait for."""
        waits: dict[int, list[int]] = {}
        lasts = [rank.builder.last_compute for rank in self._ranks]
        for ranks, num_bytes in self._layout.shared_gradients().items():
            duration_s = self._layout.links.exchange_s(ranks, num_bytes)
            before = _present([lasts[rank] for rank in ranks])
            before += [w for rank in ranks for w in self._ranks[rank].optimizer_waits]
            before += [w for rank in ranks for w in waits.get(rank, [])]
            for rank in ranks:
                reduced = self._ranks[rank].builder.issue(
                    InstructionKind.REDUCE_GRADIENTS,
                    Stream.COLLECTIVE,
                    -1,
                    -1,
                    duration_s,
                    stage=-1,
                    waits=before,
                )
                waits.setdefault(rank, []).append(reduced)
        return waits


def _present(instructions: Sequence[int | None]) -> list[int]:
    return [instruction for instruction in instructions if instruction is not None]
