"""Stages of equal seconds: in 1f1b, and in the best of every kind."""

from __future__ import annotations

import pytest

from remora.agents.evaluation import score_of
from remora.agents.registry import create
from remora.schedule.cuts import balanced_cuts
from remora.schedule.schedule import PipelineKind
from tests.agents.several_ranks import ranks_problem

LONG_S = 600.0


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_best_kind_is_no_slower_than_1f1b_and_keeps_its_cuts(share: float) -> None:
    problem = ranks_problem(4, share)
    one = create("balanced").propose(problem, LONG_S)
    best = create("balanced", every_kind=True).propose(problem, LONG_S)
    assert one.pipeline.kind is PipelineKind.ONE_F_ONE_B
    assert score_of(problem, best).feasible
    assert score_of(problem, best).step_time_s <= score_of(problem, one).step_time_s
    units = problem.chains[best.pipeline.micro_batches].units
    seconds = [unit.forward_s + unit.backward_s for unit in units]
    stages = best.pipeline.num_ranks * best.pipeline.chunks
    assert best.pipeline.cuts == balanced_cuts(seconds, stages)


def test_another_kind_can_be_the_best_one() -> None:
    problem = ranks_problem(4, 0.9, fixed=4)
    best = create("balanced", every_kind=True).propose(problem, LONG_S)
    one = create("balanced").propose(problem, LONG_S)
    assert best.pipeline.kind is not PipelineKind.ONE_F_ONE_B
    assert score_of(problem, best).step_time_s < score_of(problem, one).step_time_s
