"""What ranks cannot run is refused before one of them starts."""

from __future__ import annotations

import dataclasses

import pytest

from remora.errors import InvalidInputError
from remora.executor.pipeline.limits import check_runs_on_ranks
from remora.schedule.schedule import PipelineKind, Placement, Schedule, StatePlan
from tests.executor.pipeline.cases import PipelineCase, build


def _check(case: PipelineCase, world_size: int = 4, state: StatePlan | None = None) -> None:
    built = build(case)
    schedule: Schedule = built.schedule
    if state is not None:
        schedule = dataclasses.replace(schedule, state=state)
    check_runs_on_ranks(built.example.model, built.graph, schedule, world_size)


def test_what_can_run_passes() -> None:
    _check(PipelineCase("bert_tiny", PipelineKind.ONE_F_ONE_B), state=StatePlan(zero_stage=3))
    _check(PipelineCase("bert_tiny", PipelineKind.CHIMERA))


def test_ranks_that_do_not_fit() -> None:
    with pytest.raises(InvalidInputError, match=r"world_size is 3; allowed .* multiples of 2"):
        _check(PipelineCase("vit_tiny", PipelineKind.GPIPE), world_size=3)


def test_chimera_with_running_statistics() -> None:
    with pytest.raises(InvalidInputError, match=r"'chimera', .* keeps running statistics"):
        _check(PipelineCase("resnet_tiny", PipelineKind.CHIMERA))


@pytest.mark.parametrize("kind", [PipelineKind.ZERO_BUBBLE, PipelineKind.DUALPIPE_V])
def test_shards_between_two_halves(kind: PipelineKind) -> None:
    with pytest.raises(InvalidInputError, match="whose backwards come in halves"):
        _check(PipelineCase("vit_tiny", kind), state=StatePlan(zero_stage=2))


def test_a_weight_of_two_stages_of_a_rank_in_shards() -> None:
    with pytest.raises(InvalidInputError, match=r"two stages of one rank read the weight '.*wte"):
        _check(PipelineCase("gpt2_tiny", PipelineKind.CHIMERA), state=StatePlan(zero_stage=3))


def test_gradients_on_the_host() -> None:
    host = StatePlan(gradients=Placement.HOST, optimizer=Placement.HOST)
    with pytest.raises(InvalidInputError, match=r"state\.gradients is 'host'"):
        _check(PipelineCase("vit_tiny", PipelineKind.GPIPE), state=host)
