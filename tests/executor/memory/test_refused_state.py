"""What the language can say and the memory runtime cannot do is refused, not ignored."""

from __future__ import annotations

import dataclasses

import pytest

from remora.errors import InvalidInputError
from remora.executor.memory.install import apply
from remora.schedule.menu import keep_all_schedule
from remora.schedule.schedule import PipelineKind, PipelinePlan, Placement, Schedule, StatePlan
from tests.problems import BlockChain, toy_graph

KEEP = keep_all_schedule(toy_graph((64,) * 4))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            dataclasses.replace(KEEP, state=StatePlan(gradients=Placement.HOST)),
            "state.gradients is 'host' with state.optimizer='device'",
        ),
        (
            dataclasses.replace(
                KEEP,
                state=StatePlan(
                    Placement.HOST,
                    optimizer=Placement.HOST,
                    streamed_units=(0, len(KEEP.memory.options)),
                ),
            ),
            "state.streamed_units is .*; allowed: ascending indices from 0",
        ),
        (dataclasses.replace(KEEP, state=StatePlan(zero_stage=1)), "state.zero_stage is 1"),
        (
            dataclasses.replace(KEEP, pipeline=PipelinePlan(PipelineKind.GPIPE, (2,), 1, 2)),
            "pipeline.kind is 'gpipe'",
        ),
    ],
)
def test_state_and_pipelines_are_not_run(schedule: Schedule, message: str) -> None:
    model = BlockChain((64,) * 4)
    with pytest.raises(InvalidInputError, match=message):
        apply(model, toy_graph((64,) * 4), schedule)
