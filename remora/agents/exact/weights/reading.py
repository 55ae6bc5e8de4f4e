"""Reads the tables of a memory plan off one program.

With the memory plan fixed, which compute instructions run in which order does not depend on the
streamed units. So one program, the one that streams the weights of every unit, says all: at which
points a unit's streamed weights are there, and which copy each instruction waits for. Leaving a
unit out takes its copies away and puts its weights back for the whole step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from remora.agents.exact.weights.tables import Bundle, Point, StreamTables, Task
from remora.graph.model_graph import PARAMETER
from remora.schedule.layout import Layout
from remora.schedule.lowering import lower
from remora.schedule.parameters import StaticStorage
from remora.schedule.problem import Problem
from remora.schedule.program import InstructionKind, MemoryKind, Program, Stream
from remora.schedule.schedule import Placement, Schedule, StatePlan
from remora.schedule.state_bytes import StateBytes
from remora.simulator.engine import run
from remora.simulator.timeline import Timeline

__all__ = ["stream_tables", "streamable_units"]


def streamable_units(problem: Problem) -> tuple[int, ...]:
    """Units that have weights, ascending."""
    statics = problem.chain.statics
    return tuple(u.index for u in problem.graph.units if statics.weights_of((u.index,)))


def stream_tables(problem: Problem, schedule: Schedule, gradients: Placement) -> StreamTables:
    """Tables of a memory plan on one device.

    Args:
        problem: of one rank, whose weights may live on the host.
        schedule: what happens to activations; its state is replaced.
        gradients: where these live, with the optimizer on the host.
    """
    units = streamable_units(problem)
    state = StatePlan(gradients=gradients, optimizer=Placement.HOST)
    everything = StatePlan(Placement.HOST, gradients, Placement.HOST, 0, units)
    whole = replace(schedule, state=everything)
    program = lower(problem, whole)
    timeline = run(program)
    layout = Layout(problem, whole)
    bundles = _bundles(problem, layout.statics_of(0), state)
    return StreamTables(
        schedule=replace(schedule, state=state),
        units=units,
        bundles=bundles,
        points=_largest(_points(program, timeline, bundles)),
        tasks=_tasks(program),
        rates=layout.host_rates,
        host_bytes=timeline.host_peak_bytes[0] - sum(bundle.host_bytes for bundle in bundles),
    )


def _bundles(
    problem: Problem, statics: Sequence[StaticStorage], state: StatePlan
) -> tuple[Bundle, ...]:
    def host_bytes(streamed: Collection[int]) -> int:
        return StateBytes(statics, problem.optimizer, state, 1, streamed).host_bytes

    found: dict[frozenset[int], list[StaticStorage]] = {}
    for entry in statics:
        if entry.role == PARAMETER:
            found.setdefault(entry.units, []).append(entry)
    before = host_bytes(())
    return tuple(
        Bundle(
            units,
            sum(entry.num_bytes for entry in entries),
            sum(entry.num_bytes for entry in entries if entry.gradient_bytes),
            host_bytes([entry.storage for entry in entries]) - before,
        )
        for units, entries in found.items()
    )


def _points(
    program: Program, timeline: Timeline, bundles: Sequence[Bundle]
) -> Iterator[tuple[int, frozenset[int]]]:
    """Level without streaming and present units, twice for every compute instruction."""
    loads = [i for i in program.instructions if _load_of(i.kind, i.unit) >= 0]
    weights = [n for n, b in enumerate(program.buffers) if b.kind is MemoryKind.WEIGHTS]
    # Every load fills one buffer, and both are made in the same order.
    unit_of = {buffer: load.unit for buffer, load in zip(weights, loads, strict=True)}
    present: set[int] = set()
    samples = iter(timeline.memory[0])
    for instruction in program.instructions:
        if instruction.stream is not Stream.COMPUTE:
            continue
        for gone, come in (
            (instruction.early_releases, instruction.early_allocates),
            (instruction.releases, instruction.allocates),
        ):
            present |= {unit_of[b] for b in come if b in unit_of}
            present -= {unit_of[b] for b in gone if b in unit_of}
            here = frozenset(present)
            freed = sum(bundle.freed_bytes(here) for bundle in bundles)
            yield next(samples).level_bytes + freed, here


def _largest(points: Iterator[tuple[int, frozenset[int]]]) -> tuple[Point, ...]:
    most: dict[frozenset[int], int] = {}
    for num_bytes, present in points:
        most[present] = max(num_bytes, most.get(present, 0))
    return tuple(Point(num_bytes, present) for present, num_bytes in most.items())


def _tasks(program: Program) -> tuple[Task, ...]:
    tasks: list[Task] = []
    latest: dict[Stream, int] = {}
    for index, instruction in enumerate(program.instructions):
        load = _load_of(instruction.kind, instruction.unit)
        tasks.append(
            Task(
                duration_s=0.0 if load >= 0 else instruction.duration_s,
                queue=latest.get(instruction.stream, -1),
                waits=instruction.waits,
                load=load,
                stream=instruction.stream,
            )
        )
        latest[instruction.stream] = index
        if instruction.kind is InstructionKind.OPTIMIZER:
            break
    return tuple(tasks)


def _load_of(kind: InstructionKind, unit: int) -> int:
    """The unit whose streamed weights an instruction brings, -1 if it does something else."""
    return unit if kind is InstructionKind.LOAD_WEIGHTS else -1
