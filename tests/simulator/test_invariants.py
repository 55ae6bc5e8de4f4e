"""What holds for the program of every schedule that the language can say, drawn at random."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from remora.schedule.lowering import lower
from remora.schedule.orders import splits_backward
from remora.schedule.problem import Problem
from remora.schedule.program import Instruction, InstructionKind, MemoryKind, Program, Stream
from remora.schedule.schedule import PipelineKind, Placement, Schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from remora.simulator.engine import run
from remora.simulator.simulate import simulate
from tests.schedule.full_plans import fitting_pipelines, random_full_schedule
from tests.simulator.random_cases import (
    CASES,
    GRAPHS,
    OPTIMIZERS,
    WORLD_SIZES,
    Case,
    drawn,
    problem_of_case,
)

Property = Callable[[Problem, Schedule, Program], None]
PROPERTIES: list[Property] = []
SECOND_HALF = InstructionKind.BACKWARD_WEIGHT
FIRST_OF_BACKWARD = (InstructionKind.BACKWARD, InstructionKind.BACKWARD_INPUT)


def holds_always(check: Property) -> Property:
    PROPERTIES.append(check)
    return check


@holds_always
def memory_returns_to_where_it_began(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    for resident, samples in zip(program.resident_bytes, run(program).memory, strict=True):
        at_the_end = {kind: size for kind, size in samples[-1].by_kind.items() if size}
        assert at_the_end == {kind: size for kind, size in resident.items() if size}
        for sample in samples:
            assert sample.level_bytes == sum(sample.by_kind.values())
            assert all(sample.by_kind.get(kind, 0) >= size for kind, size in resident.items())


@holds_always
def host_memory_returns_to_where_it_began(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    level = list(program.host_bytes)
    for instruction in program.instructions:
        level[instruction.rank] += instruction.host_bytes
        assert level[instruction.rank] >= program.host_bytes[instruction.rank]
    assert level == list(program.host_bytes)


@holds_always
def every_buffer_is_taken_once_and_given_back_once(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    taken, given_back = Counter[int](), Counter[int]()
    for instruction in program.instructions:
        taken.update((*instruction.early_allocates, *instruction.allocates))
        for buffer in (*instruction.early_releases, *instruction.releases):
            # A receive buffer lasts the whole step and is counted apart.
            received = program.buffers[buffer].kind is MemoryKind.RECEIVE
            assert taken[buffer] == (0 if received else 1)
            given_back[buffer] += 1
    assert set(taken.values()) <= {1}
    assert set(given_back.values()) <= {1}
    assert taken.keys() <= given_back.keys()


@holds_always
def memory_changes_on_the_compute_stream_only(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    for instruction in program.instructions:
        assert instruction.transient_bytes >= 0
        if instruction.stream is not Stream.COMPUTE:
            assert not _memory_changes(instruction)
            assert not instruction.transient_bytes


def _memory_changes(instruction: Instruction) -> tuple[int, ...]:
    return (
        *instruction.early_releases,
        *instruction.early_allocates,
        *instruction.allocates,
        *instruction.releases,
    )


@holds_always
def weights_that_are_brought_in_are_there_for_two_units_at_most(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    there: list[set[int]] = [set() for _ in range(program.num_ranks)]
    for instruction in program.instructions:
        present = there[instruction.rank]
        present.difference_update(instruction.early_releases)
        present.update(b for b in instruction.early_allocates if _is_weights(program, b))
        assert len(present) <= 2
        present.difference_update(instruction.releases)


def _is_weights(program: Program, buffer: int) -> bool:
    return program.buffers[buffer].kind is MemoryKind.WEIGHTS


@holds_always
def gradients_that_leave_have_one_more_instruction_to_do_so(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    computed = Counter[int]()
    taken: dict[int, int] = {}
    for instruction in program.instructions:
        computed[instruction.rank] += instruction.stream is Stream.COMPUTE
        now = computed[instruction.rank]
        for buffer in instruction.allocates:
            if program.buffers[buffer].kind is MemoryKind.GRADIENTS:
                taken[buffer] = now
        for buffer in taken.keys() & set(instruction.early_releases):
            # The optimizer step waits for all of them.
            assert now - taken.pop(buffer) == 2 or instruction.unit < 0
    if schedule.state.gradients is Placement.HOST:
        assert not taken


@holds_always
def every_micro_batch_passes_every_unit_forward_and_backward_once(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    runs: dict[InstructionKind, Counter[tuple[int, int]]] = {
        kind: Counter() for kind in InstructionKind
    }
    for instruction in program.instructions:
        runs[instruction.kind][instruction.unit, instruction.micro_batch] += 1
    places = {
        (unit.index, micro_batch): 1
        for unit in problem.graph.units
        for micro_batch in range(schedule.pipeline.micro_batches)
    }
    halves = runs[InstructionKind.BACKWARD_INPUT]
    assert runs[InstructionKind.FORWARD] == places
    assert runs[InstructionKind.BACKWARD] + halves == places
    assert runs[InstructionKind.BACKWARD_WEIGHT] == halves
    assert not halves or splits_backward(schedule.pipeline.kind)
    assert runs[InstructionKind.RECEIVE] == runs[InstructionKind.SEND]


@holds_always
def what_is_made_again_is_made_before_its_backward(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    done: set[tuple[int, int]] = set()
    again = (InstructionKind.RECOMPUTE, InstructionKind.RESTORE, InstructionKind.PREFETCH)
    for instruction in program.instructions:
        place = (instruction.unit, instruction.micro_batch)
        # The very first unit has nothing to hand on, so its first half needs nothing of it.
        waits = instruction.kind is InstructionKind.BACKWARD_INPUT and instruction.unit == 0
        if instruction.kind in FIRST_OF_BACKWARD and not waits:
            done.add(place)
        elif instruction.kind in again:
            assert place not in done
        elif instruction.kind is SECOND_HALF:
            assert place in done or instruction.unit == 0
            done.add(place)


@holds_always
def nothing_comes_back_from_the_host_before_it_has_arrived(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    slow = tuple(
        dataclasses.replace(i, duration_s=1.0) if i.kind is InstructionKind.OFFLOAD else i
        for i in program.instructions
    )
    arrived: dict[tuple[int, ...], float] = {}
    for event in run(dataclasses.replace(program, instructions=slow)).events:
        i = event.instruction
        what = (i.stage, i.unit, i.micro_batch, abs(i.host_bytes))
        if i.kind is InstructionKind.OFFLOAD:
            arrived[what] = event.end_s
        elif i.kind is InstructionKind.PREFETCH:
            assert event.start_s >= arrived[what]


@holds_always
def a_schedule_read_back_and_a_second_run_are_the_same(
    problem: Problem, schedule: Schedule, program: Program
) -> None:
    again = schedule_from_json(schedule_to_json(schedule), problem.graph.content_hash)
    assert again == schedule
    assert simulate(problem, again) == run(program)


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@given(case=CASES)
@settings(max_examples=20)
def test_property_of_every_program(check: Property, case: Case) -> None:
    problem, schedule = drawn(case)
    check(problem, schedule, lower(problem, schedule))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("name", GRAPHS)
def test_properties_of_many_programs(name: str, world_size: int, optimizer: str) -> None:
    for seed in range(40):
        problem, schedule = drawn(Case(name, world_size, optimizer, seed))
        program = lower(problem, schedule)
        for check in PROPERTIES:
            check(problem, schedule, program)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_draws_reach_every_part_of_the_language(name: str) -> None:
    """So that the properties say something about all of it."""
    problem = problem_of_case(name, 4, "adamw")
    schedules = [random_full_schedule(problem, seed) for seed in range(200)]
    kinds = set(fitting_pipelines(problem))
    assert {s.pipeline.kind for s in schedules} == kinds
    statistics = any(unit.mutated_buffers for unit in problem.graph.units)
    assert set(PipelineKind) - kinds == ({PipelineKind.CHIMERA} if statistics else set())
    assert {s.state.zero_stage for s in schedules} == {0, 1, 2, 3}
    assert {s.state.optimizer for s in schedules} == set(Placement)
    assert any(s.state.streamed_units for s in schedules)
    assert any(s.state.gradients is Placement.HOST for s in schedules)
    assert any(s.memory.paces for s in schedules)
    assert any(len(o.distinct) == 4 for s in schedules for o in s.memory.options)
    assert any(group.children for s in schedules for group in s.memory.groups)


def test_together_they_make_every_kind_of_instruction() -> None:
    problem = problem_of_case("gpt2_tiny", 4, "adamw")
    seen = {
        instruction.kind
        for seed in range(60)
        for instruction in lower(problem, random_full_schedule(problem, seed)).instructions
    }
    # Passes of inference alone write caches back, and what ranks that share layers send is part of
    # other instructions until it is shown.
    others = {InstructionKind.STORE_CACHE, InstructionKind.SHARE_LAYERS}
    assert seen == set(InstructionKind) - others
