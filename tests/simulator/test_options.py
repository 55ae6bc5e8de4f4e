"""Options that mix actions inside a unit, and the pace of host copies over micro-batches and ranks.

Of a block (norm, up, relu, down) the norm's mean and deviation, its result and the relu's result
are saved; the last two twice as large views count once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from remora.graph.model_graph import ModelGraph
from remora.schedule.menu import keep_all_schedule, keep_option, offload_option
from remora.schedule.problem import Problem
from remora.schedule.program import Instruction, InstructionKind, MemoryKind, Stream
from remora.schedule.schedule import (
    Action,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    Schedule,
    UnitOption,
)
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.pipelines import gpu_hardware
from tests.problems import problem_of, table, toy_graph

KEEP, RECOMPUTE = Action.KEEP, Action.RECOMPUTE
OFFLOAD, COMPRESS = Action.OFFLOAD, Action.COMPRESS

MEAN, DEVIATION, NORMED = "3:t", "4:t", "5:addmm"
RELU = ("7:t", "8:addmm")
INPUT = "1:native_layer_norm"
BATCH, WIDTH, HIDDEN = 8, 16, 64
RELU_BYTES = 4 * BATCH * HIDDEN
NORMED_BYTES = 4 * BATCH * WIDTH
MEAN_BYTES = 4 * BATCH
UNIT = 2
"""The block that the options below are for."""

GRAPH = toy_graph((HIDDEN,) * 4, BATCH)


def mixed(**changes: object) -> Problem:
    costs = dataclasses.replace(table(GRAPH), saved_tensor_overhead_s=0.0, **changes)
    problem = problem_of(GRAPH, costs=costs, hardware=gpu_hardware())
    return dataclasses.replace(problem, allow_lossy=True)


def plan(actions: Mapping[str, Action], window: int = 1) -> Schedule:
    """Keep everything but some saved tensors of one unit."""
    options = list(keep_all_schedule(GRAPH).memory.options)
    names = [saved.name for saved in GRAPH.units[UNIT].saved]
    assert actions.keys() <= set(names)
    options[UNIT] = UnitOption(tuple((name, actions.get(name, KEEP)) for name in names))
    memory = MemoryPlan(tuple(options), offload_window=window)
    return Schedule(GRAPH.content_hash, memory)


def of_unit(timeline: Timeline, kind: InstructionKind) -> Instruction:
    """The only instruction of this kind for the unit."""
    (found,) = (
        e.instruction
        for e in timeline.events
        if e.instruction.kind is kind and e.instruction.unit == UNIT
    )
    return found


def kinds_of_unit(timeline: Timeline) -> list[str]:
    """What the unit does, in order of start."""
    mine = [e for e in timeline.events if e.instruction.unit == UNIT]
    return [e.instruction.kind.value for e in sorted(mine, key=lambda e: e.start_s)]


def saved_after_forward(timeline: Timeline) -> int:
    """Bytes that are kept when the last forward has ended."""
    events = timeline.events
    last = max(i for i, e in enumerate(events) if e.instruction.kind is InstructionKind.FORWARD)
    return [s for s in timeline.memory[0] if s.instruction == last][-1].by_kind[MemoryKind.SAVED]


def freed(actions: Mapping[str, Action]) -> int:
    """Bytes by which an option lowers what is kept after the forward."""
    keep = simulate(mixed(), keep_all_schedule(GRAPH))
    return saved_after_forward(keep) - saved_after_forward(simulate(mixed(), plan(actions)))


def test_part_of_a_unit_runs_again_from_what_it_keeps() -> None:
    actions = dict.fromkeys(RELU, RECOMPUTE)
    problem = mixed(recorded_op_overhead_s=0.5)
    timeline = simulate(problem, plan(actions))
    first = GRAPH.units[UNIT].forward[0]
    times = problem.cost.op_time_s
    # The norm's result is kept, so the first linear layer and the relu are all that runs.
    rerun = of_unit(timeline, InstructionKind.RECOMPUTE)
    assert rerun.duration_s == pytest.approx(times[first + 2] + times[first + 3])
    # Its result beside that of the layer before it, which goes.
    assert rerun.transient_bytes == 2 * RELU_BYTES
    forward = of_unit(timeline, InstructionKind.FORWARD)
    assert forward.duration_s == pytest.approx(problem.chain.units[UNIT].forward_s + 7 * 0.5)
    assert freed(actions) == RELU_BYTES
    assert kinds_of_unit(timeline) == ["forward", "recompute", "backward"]


def test_a_storage_follows_an_action_only_if_all_its_views_do() -> None:
    one_of_two = {RELU[0]: RECOMPUTE}
    assert freed(one_of_two) == 0
    keep = simulate(mixed(), keep_all_schedule(GRAPH))
    assert simulate(mixed(), plan(one_of_two)).step_time_s == keep.step_time_s


def test_a_rerun_from_the_input_holds_the_input() -> None:
    # Nothing of the unit is kept but the mean, so the norm runs again from the block's input,
    # which the unit saves anyway, whatever its own action is.
    actions = dict.fromkeys((INPUT, DEVIATION, NORMED, *RELU), RECOMPUTE)
    timeline = simulate(mixed(), plan(actions))
    first = GRAPH.units[UNIT].forward[0]
    times = mixed().cost.op_time_s
    expected = sum(times[first + op] for op in (0, 2, 3))
    rerun = of_unit(timeline, InstructionKind.RECOMPUTE)
    assert rerun.duration_s == pytest.approx(expected)
    assert freed(actions) == MEAN_BYTES + NORMED_BYTES + RELU_BYTES
    assert freed({**actions, INPUT: KEEP}) == freed(actions)


def test_a_compressed_copy_has_a_byte_per_value_and_a_scale_per_256() -> None:
    actions = dict.fromkeys(RELU, COMPRESS)
    problem = mixed(compress_bytes_per_s=1024.0, restore_bytes_per_s=512.0)
    timeline = simulate(problem, plan(actions))
    values = BATCH * HIDDEN
    assert freed(actions) == RELU_BYTES - (values + 4 * values // 256)
    assert freed({MEAN: COMPRESS}) == MEAN_BYTES - (BATCH + 4)
    restore = of_unit(timeline, InstructionKind.RESTORE)
    assert restore.duration_s == RELU_BYTES / 512.0
    assert restore.transient_bytes == RELU_BYTES
    forward = of_unit(timeline, InstructionKind.FORWARD)
    assert forward.duration_s == pytest.approx(
        problem.chain.units[UNIT].forward_s + RELU_BYTES / 1024.0
    )
    assert kinds_of_unit(timeline) == ["forward", "restore", "backward"]


def test_copies_come_back_before_restoring_and_that_before_running_again() -> None:
    actions = {NORMED: OFFLOAD, MEAN: COMPRESS, **dict.fromkeys(RELU, RECOMPUTE)}
    timeline = simulate(mixed(), plan(actions))
    assert kinds_of_unit(timeline) == [
        *("forward", "offload", "prefetch", "restore", "recompute", "backward")
    ]
    compressed = BATCH + 4
    assert freed(actions) == NORMED_BYTES + MEAN_BYTES - compressed + RELU_BYTES
    events = timeline.events
    (arrived,) = (e.end_s for e in events if e.instruction.kind is InstructionKind.PREFETCH)
    (restored,) = (e for e in events if e.instruction.kind is InstructionKind.RESTORE)
    assert restored.start_s >= arrived


def test_an_offloaded_tensor_is_on_the_host_between_its_copies() -> None:
    timeline = simulate(mixed(), plan({NORMED: OFFLOAD, MEAN: OFFLOAD}))
    assert timeline.host_peak_bytes == (NORMED_BYTES + MEAN_BYTES,)
    store = of_unit(timeline, InstructionKind.OFFLOAD)
    assert store.duration_s == pytest.approx(2 * 1e-5 + (NORMED_BYTES + MEAN_BYTES) / 1e9)


# Host copies over ranks and micro-batches


@pytest.mark.parametrize(
    ("ranks_per_link", "on_node", "sharing"),
    [(1, 4, 1), (2, 4, 2), (4, 4, 4), (8, 4, 4), (4, 1, 1)],
)
def test_ranks_that_share_a_host_link_get_equal_parts(
    ranks_per_link: int, on_node: int, sharing: int
) -> None:
    base = gpu_hardware(on_node)
    host = dataclasses.replace(base.host, ranks_per_link=ranks_per_link)
    problem = dataclasses.replace(
        mixed(copy_latency_s=0.0), hardware=dataclasses.replace(base, host=host), world_size=4
    )
    timeline = simulate(problem, plan({NORMED: OFFLOAD}))
    for kind in (InstructionKind.OFFLOAD, InstructionKind.PREFETCH):
        assert of_unit(timeline, kind).duration_s == pytest.approx(NORMED_BYTES * sharing / 1e9)


def offloading_pipeline(window: int, distance: int) -> Timeline:
    """Two ranks, three micro-batches; the second unit of the first stage moves to the host."""
    graph = toy_graph((4096,) * 4, batch=64)
    options = [keep_option(unit) for unit in graph.units]
    options[1] = offload_option(graph, graph.units[1])
    counts = {1, 3}
    problem = Problem(
        graphs=dict.fromkeys(counts, graph),
        costs=dict.fromkeys(counts, table(graph, 1e12)),
        hardware=gpu_hardware(),
        optimizer=problem_of(graph).optimizer,
        budget_bytes=2**40,
        world_size=2,
    )
    schedule = Schedule(
        graph.content_hash,
        MemoryPlan(tuple(options), paces=((window, distance), (1, 1))),
        PipelinePlan(PipelineKind.GPIPE, (3,), 1, 3),
    )
    return simulate(problem, schedule)


def releases(timeline: Timeline) -> list[tuple[str, int, int]]:
    """Where rank 0 waits for each copy to the host: kind, unit and micro-batch."""
    copies = {
        index
        for index, e in enumerate(timeline.events)
        if e.instruction.kind is InstructionKind.OFFLOAD
    }
    return [
        (e.instruction.kind.value, e.instruction.unit, e.instruction.micro_batch)
        for e in timeline.events
        if e.instruction.stream is Stream.COMPUTE
        for _ in copies & set(e.instruction.waits)
    ]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (1, [("forward", 2, 0), ("forward", 2, 1), ("forward", 2, 2)]),
        # Two units later is the first unit of the next micro-batch; the last one has none, so its
        # copy is waited for where its own backward begins.
        (2, [("forward", 0, 1), ("forward", 0, 2), ("backward", 2, 2)]),
        (4, [("forward", 2, 1), ("forward", 2, 2), ("backward", 2, 2)]),
        (9, [("backward", 2, 0), ("backward", 2, 1), ("backward", 2, 2)]),
    ],
)
def test_the_offload_window_goes_on_over_micro_batches(
    window: int, expected: list[tuple[str, int, int]]
) -> None:
    assert sorted(releases(offloading_pipeline(window, 1))) == sorted(expected)


@pytest.mark.parametrize(("distance", "issued_before"), [(1, 2), (2, 2), (5, 2)])
def test_the_prefetch_distance_ends_at_the_border_of_the_stage(
    distance: int, issued_before: int
) -> None:
    timeline = offloading_pipeline(1, distance)
    taken = [
        (e.instruction.unit, e.instruction.micro_batch)
        for e in timeline.events
        if e.instruction.rank == 0 and e.instruction.early_allocates
    ]
    # Taken with the backward of the last unit of the stage, and landed with the unit's own.
    expected = {(issued_before, m) for m in range(3)} | {(1, m) for m in range(3)}
    assert set(taken) == expected


def test_nothing_comes_back_before_it_has_arrived() -> None:
    # The whole model on one rank, its last block moved over a slow link to the host.
    costs = {"d2h_bytes_per_s": NORMED_BYTES / 8.0, "h2d_bytes_per_s": NORMED_BYTES / 4.0}
    problem = mixed(**costs, copy_latency_s=0.0, optimizer_time_s=0.0)
    events = simulate(problem, plan({NORMED: OFFLOAD}, window=9)).events
    (out,) = (e for e in events if e.instruction.kind is InstructionKind.OFFLOAD)
    (back,) = (e for e in events if e.instruction.kind is InstructionKind.PREFETCH)
    assert out.end_s - out.start_s == pytest.approx(8.0)
    assert back.start_s >= out.end_s
    assert back.end_s - out.end_s == pytest.approx(4.0, rel=1e-3)


def test_each_stage_has_its_own_pace() -> None:
    graph = toy_graph((4096,) * 4, batch=64)
    peaks = [offloading_pipeline(window, 1).peak_bytes for window in (1, 9)]
    moved = offload_bytes(graph)
    # With a short window two of three micro-batches are gone when the first backward begins.
    assert peaks[1][0] - peaks[0][0] >= moved
    assert peaks[1][1] == peaks[0][1]


def offload_bytes(graph: ModelGraph) -> int:
    option = dict(offload_option(graph, graph.units[1]).actions)
    storages = {
        graph.storage_of(saved) for saved in graph.units[1].saved if option[saved.name] is OFFLOAD
    }
    return sum(graph.storages[storage].num_bytes for storage in storages)
