"""Rules of pipelines, state and links: what breaks one is refused by name and never simulated."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.errors import InvalidInputError
from remora.hardware.hardware import Hardware, HardwareState, Link
from remora.schedule.menu import keep_all_schedule, offload_option
from remora.schedule.problem import Problem
from remora.schedule.schedule import (
    Action,
    Group,
    PipelineKind,
    PipelinePlan,
    Placement,
    Schedule,
    StatePlan,
)
from remora.schedule.validate import validate
from remora.simulator.simulate import simulate
from tests.pipelines import gpu_hardware
from tests.problems import cpu_hardware, toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem, random_full_schedule

GPIPE, ONE_F_ONE_B = PipelineKind.GPIPE, PipelineKind.ONE_F_ONE_B
INTERLEAVED, ZERO_BUBBLE = PipelineKind.INTERLEAVED, PipelineKind.ZERO_BUBBLE
DUALPIPE_V, CHIMERA = PipelineKind.DUALPIPE_V, PipelineKind.CHIMERA
HOST, EIGHT_BIT = Placement.HOST, Placement.EIGHT_BIT

# Six units, the last of which is the loss and has no weights; the batch divides by 1, 2, 4, 8.
GRAPH = toy_graph(batch=64)
KEEP = keep_all_schedule(GRAPH)
NUM_UNITS = len(GRAPH.units)
LOSS = NUM_UNITS - 1


def problem(world_size: int = 2, **changes: Any) -> Problem:
    return dataclasses.replace(
        full_problem(GRAPH, world_size, micro_batches=(1, 2, 4, 8)), **changes
    )


def piped(
    kind: PipelineKind, cuts: tuple[int, ...], micro_batches: int = 4, chunks: int = 1
) -> Schedule:
    return dataclasses.replace(KEEP, pipeline=PipelinePlan(kind, cuts, chunks, micro_batches))


def placed(**state: Any) -> Schedule:
    return dataclasses.replace(KEEP, state=StatePlan(**state))


def streaming(*units: int, **state: Any) -> Schedule:
    return placed(weights=HOST, optimizer=HOST, streamed_units=units, **state)


def refused(where: Problem, schedule: Schedule, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        validate(where, schedule)
    with pytest.raises(InvalidInputError, match=message):
        simulate(where, schedule)


PIPELINES = {
    "first stage empty": (2, piped(GPIPE, (0,)), r"cuts is \[0\], which leaves stage 0 \[0, 0\)"),
    "last stage empty": (2, piped(GPIPE, (6,)), r"leaves stage 1 \[6, 6\) empty; allowed: asc"),
    "cut below zero": (2, piped(GPIPE, (-1,)), r"leaves stage 0 \[0, -1\) empty"),
    "cut past the end": (2, piped(GPIPE, (7,)), r"leaves stage 0 \[0, 7\) outside of the model"),
    "cuts not sorted": (3, piped(GPIPE, (4, 2)), r"leaves stage 1 \[4, 2\) empty"),
    "cut twice": (3, piped(GPIPE, (3, 3)), r"leaves stage 1 \[3, 3\) empty"),
    "chunks do not divide": (
        2,
        piped(INTERLEAVED, (1, 2, 3, 4), chunks=2),
        "makes 5 stages, which pipeline.chunks=2 does not divide",
    ),
    "no chunks": (2, piped(GPIPE, (2,), chunks=0), "chunks is 0 .*; allowed: 1 to 2"),
    "more chunks than stages": (
        2,
        piped(INTERLEAVED, (2, 4), chunks=4),
        "chunks is 4 with 3 stages of 6 units; allowed: 1 to 3",
    ),
    "chunks of a kind without": (
        2,
        piped(GPIPE, (1, 2, 3), chunks=2),
        "chunks is 2; allowed with pipeline.kind='gpipe': 1",
    ),
    "one chunk of a kind with two": (
        2,
        piped(ZERO_BUBBLE, (2,)),
        "chunks is 1; allowed with pipeline.kind='zero_bubble': 2",
    ),
    "three chunks of a kind with two": (
        2,
        piped(DUALPIPE_V, (1, 2, 3, 4, 5), chunks=3),
        "chunks is 3; allowed with pipeline.kind='dualpipe_v': 2",
    ),
    "micro-batches do not divide": (2, piped(GPIPE, (2,), 3), "is 3, .*; allowed: 1, 2, 4, 8$"),
    "no micro-batches": (2, piped(GPIPE, (2,), 0), "micro_batches is 0, which does not divide"),
    "replicas do not divide": (
        3,
        piped(GPIPE, (2,)),
        "pipeline of 2 ranks, which does not divide world_size=3; allowed: its divisors",
    ),
    "more ranks than devices": (2, piped(GPIPE, (1, 2, 3)), "4 ranks, which does not divide"),
    "a kind on one rank": (2, piped(GPIPE, ()), "kind is 'gpipe' on 1 rank; allowed: 2 ranks"),
    "chunks on one rank": (
        2,
        piped(INTERLEAVED, (3,), chunks=2),
        "kind is 'interleaved_1f1b' on 1 rank",
    ),
    "no kind on two ranks": (2, piped(PipelineKind.NONE, (3,)), "kind='none'; allowed: no cuts"),
    "1f1b with few micro-batches": (4, piped(ONE_F_ONE_B, (1, 2, 3), 2), "at least 4"),
    "dualpipe with few": (2, piped(DUALPIPE_V, (1, 2, 3), 2, 2), "on 2 ranks: at least 4"),
    "chimera on three ranks": (3, piped(CHIMERA, (2, 4)), "3 ranks; .*'chimera': even numbers"),
    "chimera with an odd number": (2, piped(CHIMERA, (3,), 1), "is 1; .*: multiples of 2"),
}


@pytest.mark.parametrize("case", PIPELINES)
def test_a_broken_pipeline_is_named(case: str) -> None:
    world_size, schedule, message = PIPELINES[case]
    refused(problem(world_size), schedule, message)


def test_a_fixed_number_of_micro_batches_is_the_only_one() -> None:
    fixed = problem(micro_batches=4)
    validate(fixed, piped(GPIPE, (2,), 4))
    refused(fixed, piped(GPIPE, (2,), 2), "is 2, .*; allowed: 4, fixed by the problem")


def test_copies_of_a_model_with_running_statistics_are_refused() -> None:
    graph = zoo_graph("resnet_tiny")
    where = full_problem(graph, 2, micro_batches=(2,))
    schedule = dataclasses.replace(
        keep_all_schedule(graph), pipeline=PipelinePlan(CHIMERA, (4,), 1, 2)
    )
    refused(where, schedule, r"keeps running statistics \(.*tracked\); allowed: kinds with")
    validate(where, dataclasses.replace(schedule, pipeline=PipelinePlan(GPIPE, (4,), 1, 2)))


def with_memory(schedule: Schedule, **changes: Any) -> Schedule:
    return dataclasses.replace(schedule, memory=dataclasses.replace(schedule.memory, **changes))


@pytest.mark.parametrize("group", [Group(1, 3), Group(0, 4, Action.OFFLOAD, (Group(0, 1),))])
def test_a_group_may_not_cross_a_cut(group: Group) -> None:
    schedule = with_memory(piped(GPIPE, (2,)), groups=(group,))
    refused(problem(), schedule, r"crosses the cut at 2; allowed: groups inside one stage")


def test_groups_end_where_stages_do() -> None:
    groups = (Group(0, 2), Group(2, 5))
    validate(problem(), with_memory(piped(GPIPE, (2,)), groups=groups))


@pytest.mark.parametrize("count", [1, 3])
def test_there_is_a_pace_for_every_stage_or_none(count: int) -> None:
    schedule = with_memory(piped(GPIPE, (2,)), paces=((2, 1),) * count)
    refused(problem(), schedule, f"paces has {count} entries; allowed: none, or 2, one per stage")


@pytest.mark.parametrize(
    ("pace", "message"),
    [((0, 1), "offload_window is 0; allowed: integers from 1"), ((1, 0), "distance is 0")],
)
def test_every_pace_is_checked(pace: tuple[int, int], message: str) -> None:
    refused(problem(), with_memory(piped(GPIPE, (2,)), paces=((1, 1), pace)), message)


STATES = {
    "zero stage": (2, placed(zero_stage=4), "zero_stage is 4; allowed: 0, 1, 2, 3"),
    "negative zero stage": (2, placed(zero_stage=-1), "zero_stage is -1; allowed"),
    "zero with one replica": (1, placed(zero_stage=1), "zero_stage is 1 with one replica"),
    "8-bit gradients": (2, placed(gradients=EIGHT_BIT), "gradients is '8bit'; allowed: 'device'"),
    "8-bit weights": (2, placed(weights=EIGHT_BIT), "weights is '8bit'; allowed: 'device', 'ho"),
    "gradients alone on the host": (
        2,
        placed(gradients=HOST),
        "gradients is 'host' with state.optimizer='device'; allowed with state.optimizer='host'",
    ),
    "gradients on the host, 8-bit": (
        2,
        placed(gradients=HOST, optimizer=EIGHT_BIT),
        "gradients is 'host' with state.optimizer='8bit'",
    ),
    "weights alone on the host": (
        2,
        placed(weights=HOST, streamed_units=(0,)),
        "weights is 'host' with state.optimizer='device'",
    ),
    "host weights of no unit": (2, streaming(), r"streamed_units is \[\] with .*weights='host'"),
    "streamed units on the device": (
        2,
        placed(streamed_units=(1,)),
        r"streamed_units is \[1\] with state.weights='device'",
    ),
    "streamed units not sorted": (2, streaming(2, 1), r"is \[2, 1\]; allowed: ascending"),
    "streamed unit twice": (2, streaming(1, 1), r"is \[1, 1\]; allowed: ascending indices"),
    "streamed unit past the end": (2, streaming(0, 6), r"is \[0, 6\]; .* from 0 to 5"),
    "streamed unit below zero": (2, streaming(-1, 0), r"is \[-1, 0\]; .* from 0 to 5"),
    "streamed unit without weights": (2, streaming(0, LOSS), "holds 5, a unit without weights"),
    "streamed and ZeRO 2": (2, streaming(0, zero_stage=2), "zero_stage is 2 with .*; allowed: 0"),
    "streamed and ZeRO 3": (2, streaming(0, zero_stage=3), "zero_stage is 3 with .*: 0, 1"),
}


@pytest.mark.parametrize("case", STATES)
def test_a_broken_placement_is_named(case: str) -> None:
    world_size, schedule, message = STATES[case]
    refused(problem(world_size), schedule, message)


def test_zero_needs_replicas_beside_the_pipeline() -> None:
    schedule = dataclasses.replace(piped(GPIPE, (2,)), state=StatePlan(zero_stage=1))
    refused(problem(2), schedule, r"one replica \(world_size=2, 2 ranks in the pipeline\)")
    validate(problem(4), schedule)


@pytest.mark.parametrize(
    ("optimizer", "placement"),
    [("sgd", EIGHT_BIT), ("adamw_master", EIGHT_BIT), ("none", EIGHT_BIT), ("none", HOST)],
)
def test_an_optimizer_without_such_state_cannot_place_it(
    optimizer: str, placement: Placement
) -> None:
    where = full_problem(GRAPH, 2, optimizer)
    refused(where, placed(optimizer=placement), f"optimizer is '{placement}' with optimizer=")


# Links and hosts


def offloading() -> Schedule:
    options = (*KEEP.memory.options[:1], offload_option(GRAPH, GRAPH.units[1]))
    return with_memory(KEEP, options=(*options, *KEEP.memory.options[2:]))


USERS_OF_THE_HOST = {
    "offload": offloading(),
    "checkpoint": with_memory(KEEP, groups=(Group(1, 3, Action.OFFLOAD),)),
    "optimizer": placed(optimizer=HOST),
    "gradients": placed(optimizer=HOST, gradients=HOST),
    "weights": streaming(0, 1),
}


@pytest.mark.parametrize("user", USERS_OF_THE_HOST)
def test_nothing_moves_to_a_host_that_is_the_same_memory(user: str) -> None:
    unified = problem(1, hardware=cpu_hardware(host_pool="none"))
    refused(unified, USERS_OF_THE_HOST[user], r"host\.pool='none' and one memory for host")


@pytest.mark.parametrize("field", ["d2h_bytes_per_s", "h2d_bytes_per_s"])
@pytest.mark.parametrize("user", USERS_OF_THE_HOST)
def test_nothing_moves_over_a_dead_host_link(user: str, field: str) -> None:
    base = gpu_hardware()
    dead = dataclasses.replace(base, host=dataclasses.replace(base.host, **{field: 0.0}))
    schedule = USERS_OF_THE_HOST[user]
    refused(problem(1, hardware=dead), schedule, rf"hardware\.host\.{field} is 0; allowed: a nu")
    where = problem(1)
    slow = dataclasses.replace(where.cost, **{field: 0.0})
    where = dataclasses.replace(where, costs=dict.fromkeys(where.costs, slow))
    refused(where, schedule, rf"costs\.{field} is 0; allowed: a number above 0")


DEAD = Link(0.0, 1e-6)
RANKS_THAT_TALK = {"pipeline": piped(GPIPE, (2,)), "replicas": placed(zero_stage=3)}


@pytest.mark.parametrize("user", RANKS_THAT_TALK)
@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        (gpu_hardware(2, link=DEAD), r"hardware\.link\.bandwidth_bytes_per_s is 0"),
        (gpu_hardware(1, node_link=DEAD), r"hardware\.node_link\.bandwidth_bytes_per_s is 0"),
        (
            dataclasses.replace(gpu_hardware(), state=HardwareState(2**30, link_share=0.0)),
            r"hardware\.state\.link_share is 0",
        ),
    ],
)
def test_ranks_do_not_talk_over_a_dead_link(user: str, hardware: Hardware, message: str) -> None:
    refused(problem(hardware=hardware), RANKS_THAT_TALK[user], message)


def test_a_dead_link_that_nobody_uses_is_no_matter() -> None:
    validate(problem(1, hardware=gpu_hardware(link=DEAD)), KEEP)
    validate(problem(2, hardware=gpu_hardware(2, node_link=DEAD)), piped(GPIPE, (2,)))


@given(
    seed=st.integers(0, 100_000),
    world_size=st.sampled_from([1, 2, 3, 4, 6, 8]),
    optimizer=st.sampled_from(["adamw", "adamw_master", "sgd", "none"]),
)
def test_everything_that_is_drawn_is_valid(seed: int, world_size: int, optimizer: str) -> None:
    where = full_problem(GRAPH, world_size, optimizer)
    validate(where, random_full_schedule(where, seed))
    unified = dataclasses.replace(where, hardware=cpu_hardware(host_pool="none"))
    unified = dataclasses.replace(unified, allow_lossy=False)
    validate(unified, random_full_schedule(unified, seed))
