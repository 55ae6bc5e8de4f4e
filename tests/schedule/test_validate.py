"""Every rule of the language refuses what breaks it, naming field, value and what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.errors import InvalidInputError
from remora.schedule.menu import keep_all_schedule, offload_option, recompute_option
from remora.schedule.schedule import (
    Action,
    Group,
    PipelineKind,
    PipelinePlan,
    Schedule,
    StatePlan,
    UnitOption,
)
from remora.schedule.validate import validate
from remora.simulator.simulate import simulate
from tests.problems import cpu_hardware, problem_of, toy_graph
from tests.schedule.plans import random_schedule

GRAPH = toy_graph(batch=64)
KEEP = keep_all_schedule(GRAPH)


def with_memory(**changes: Any) -> Schedule:
    return dataclasses.replace(KEEP, memory=dataclasses.replace(KEEP.memory, **changes))


def with_option(index: int, option: UnitOption, **changes: Any) -> Schedule:
    options = list(KEEP.memory.options)
    options[index] = option
    return with_memory(options=tuple(options), **changes)


def acted(index: int, *actions: Action) -> UnitOption:
    names = [saved.name for saved in GRAPH.units[index].saved]
    spread = [actions[min(i, len(actions) - 1)] for i in range(len(names))]
    return UnitOption(tuple(zip(names, spread, strict=True)))


LAST = len(GRAPH.units) - 1
INVALID = {
    "another graph": (dataclasses.replace(KEEP, graph_hash="x"), "graph_hash is 'x'"),
    "too few options": (with_memory(options=KEEP.memory.options[:-1]), "memory.options has"),
    "unknown tensor": (
        with_option(1, UnitOption((("no", Action.KEEP),))),
        r"memory.options\[1\] does not name the saved tensors",
    ),
    "window": (with_memory(offload_window=0), "offload_window is 0; allowed: integers from 1"),
    "distance": (with_memory(prefetch_distance=-1), "prefetch_distance is -1"),
    "lossy": (with_option(1, acted(1, Action.COMPRESS)), "lossy and not allowed"),
    "mixed in group": (
        with_option(1, acted(1, Action.RECOMPUTE, Action.KEEP), groups=(Group(0, 2),)),
        "is keep and recompute inside a recompute group",
    ),
    "fixed unit": (with_option(LAST, acted(LAST, Action.OFFLOAD)), "allowed: keep"),
    "overlapping groups": (with_memory(groups=(Group(0, 2), Group(1, 3))), r"\[1, 3\)"),
    "empty group": (with_memory(groups=(Group(1, 1),)), r"\[1, 1\)"),
    "group past the end": (with_memory(groups=(Group(1, 99),)), r"\[1, 99\)"),
    "fixed in group": (with_memory(groups=(Group(1, LAST + 1),)), "allowed: units of the model"),
    "child outside": (with_memory(groups=(Group(0, 2, children=(Group(1, 3),)),)), r"\[1, 3\)"),
    "child repeats": (with_memory(groups=(Group(0, 2, children=(Group(0, 2),)),)), "repeats"),
    "recompute checkpoint": (with_memory(groups=(Group(0, 2, Action.RECOMPUTE),)), "checkpoint"),
    "nested offload": (
        with_memory(groups=(Group(0, 3, children=(Group(0, 1, Action.OFFLOAD),)),)),
        "outermost groups only",
    ),
    "offload in group": (
        with_option(1, offload_option(GRAPH, GRAPH.units[1]), groups=(Group(0, 2),)),
        "offload inside a recompute group",
    ),
    "pipeline on one device": (
        dataclasses.replace(KEEP, pipeline=PipelinePlan(PipelineKind.GPIPE, (1,))),
        "pipeline of 2 ranks, which does not divide world_size=1",
    ),
    "micro-batches": (
        dataclasses.replace(KEEP, pipeline=PipelinePlan(micro_batches=3)),
        "micro_batches is 3, .*allowed: 1",
    ),
    "zero": (
        dataclasses.replace(KEEP, state=StatePlan(zero_stage=2)),
        "zero_stage is 2 with one replica",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_the_broken_rule_is_named_and_nothing_is_simulated(case: str) -> None:
    schedule, message = INVALID[case]
    with pytest.raises(InvalidInputError, match=message):
        simulate(problem_of(GRAPH), schedule)


def test_offload_is_refused_where_host_and_device_are_one_memory() -> None:
    problem = problem_of(GRAPH, hardware=cpu_hardware(host_pool="none"))
    schedule = with_option(1, offload_option(GRAPH, GRAPH.units[1]))
    with pytest.raises(InvalidInputError, match=r"host\.pool='none'"):
        validate(problem, schedule)


def test_a_pipeline_needs_a_kind() -> None:
    replicated = dataclasses.replace(problem_of(GRAPH), world_size=2)
    validate(replicated, KEEP)  # two replicas of the whole model
    with pytest.raises(InvalidInputError, match=r"cuts is \[2\] with pipeline.kind='none'"):
        validate(replicated, dataclasses.replace(KEEP, pipeline=PipelinePlan(cuts=(2,))))


@given(seed=st.integers(0, 100_000))
def test_random_plans_are_valid(seed: int) -> None:
    validate(problem_of(GRAPH), random_schedule(GRAPH, seed))


def test_recompute_everywhere_is_valid() -> None:
    options = tuple(
        recompute_option(u) if not u.fixed_reason else KEEP.memory.options[u.index]
        for u in GRAPH.units
    )
    validate(problem_of(GRAPH), with_memory(options=options))
