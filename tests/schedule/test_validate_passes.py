"""What a schedule of inference may not say, and that it survives its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from remora.errors import InvalidInputError
from remora.schedule.inference import InferenceSpec, Mode
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS
from remora.schedule.schedule import (
    Action,
    Group,
    PipelineKind,
    Placement,
    Schedule,
    StatePlan,
    UnitOption,
)
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from remora.schedule.validate import validate
from tests.passes import NUM_BLOCKS, pass_graph, pass_problem, pass_schedule
from tests.problems import problem_of, toy_graph

SPEC = InferenceSpec(8, 4, 4, 4, (0, 800) + (0,) * (NUM_BLOCKS - 1))


def with_memory(schedule: Schedule, **changes: object) -> Schedule:
    memory = dataclasses.replace(schedule.memory, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(schedule, memory=memory)


def recomputing(schedule: Schedule) -> Schedule:
    option = UnitOption((("0:mm", Action.RECOMPUTE),))
    return with_memory(schedule, options=(option, *schedule.memory.options[1:]))


def one_f_one_b(schedule: Schedule) -> Schedule:
    pipeline = dataclasses.replace(
        schedule.pipeline, kind=PipelineKind.ONE_F_ONE_B, cuts=(3,), micro_batches=2
    )
    return dataclasses.replace(schedule, pipeline=pipeline)


def with_state(**fields: object) -> Callable[[Schedule], Schedule]:
    state = StatePlan(**fields)  # type: ignore[arg-type]
    return lambda schedule: dataclasses.replace(schedule, state=state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (recomputing, r"memory.options\[0\] is recompute; allowed with mode='inference': no act"),
        (lambda s: with_memory(s, groups=(Group(0, 2),)), "memory.groups has 1 entries; allowed"),
        (one_f_one_b, "pipeline.kind is '1f1b'; allowed with mode='inference': 'none', 'gpipe'"),
        (with_state(optimizer=Placement.HOST), "state.optimizer is 'host'; allowed with mode"),
        (with_state(zero_stage=1), "state.zero_stage is 1; allowed with mode='inference': 0"),
        (with_state(host_caches=(2,)), r"state.host_caches is \[2\]; allowed: .* a cache, 1"),
        (with_state(streamed_units=(2,)), "state.streamed_units is"),
    ],
)
def test_what_a_pass_has_no_use_for_is_refused(
    change: Callable[[Schedule], Schedule], message: str
) -> None:
    problem = pass_problem(spec=SPEC, world_size=2, micro_batches=(1, 2))
    with pytest.raises(InvalidInputError, match=message):
        validate(problem, change(pass_schedule(problem)))


def test_training_keeps_no_cache() -> None:
    problem = problem_of(toy_graph())
    schedule = with_state(host_caches=(1,))(keep_all_schedule(problem.graph))
    with pytest.raises(InvalidInputError, match="allowed with mode='train': none"):
        validate(problem, schedule)


def test_a_problem_is_of_one_mode() -> None:
    problem = pass_problem()
    assert problem.mode is Mode.INFERENCE
    with pytest.raises(InvalidInputError, match=r"mode is 'train' and the graph .* without a back"):
        dataclasses.replace(problem, inference=None)
    with pytest.raises(InvalidInputError, match="optimizer is 'adamw' with mode='inference'"):
        dataclasses.replace(problem, optimizer=OPTIMIZERS["adamw"])
    with pytest.raises(InvalidInputError, match=r"mode is 'inference' and .* with its backward"):
        dataclasses.replace(problem, graphs={1: toy_graph()})


def test_a_schedule_of_inference_survives_its_file() -> None:
    problem = pass_problem(spec=SPEC)
    schedule = pass_schedule(problem, (0, 3), (1,), distance=2)
    text = schedule_to_json(schedule)
    assert schedule_from_json(text, pass_graph().content_hash) == schedule
