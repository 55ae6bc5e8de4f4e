from __future__ import annotations

import dataclasses
import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from remora.errors import InvalidInputError
from remora.schedule.cuts import balanced_cuts, default_pipeline, standard_pipeline, uniform_cuts
from remora.schedule.schedule import PipelineKind
from tests.agents.several_ranks import ranks_problem


def heaviest(weights: list[float], cuts: tuple[int, ...]) -> float:
    borders = (0, *cuts, len(weights))
    return max(sum(weights[a:b]) for a, b in itertools.pairwise(borders))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.integers(1, 9))
def test_balanced_cuts_are_as_good_as_trying_all(weights: list[float], stages: int) -> None:
    stages = min(stages, len(weights))
    cuts = balanced_cuts(weights, stages)
    assert len(cuts) == stages - 1
    assert all(a < b for a, b in itertools.pairwise((0, *cuts, len(weights))))
    tries = itertools.combinations(range(1, len(weights)), stages - 1)
    least = min(heaviest(weights, cut) for cut in tries)
    assert heaviest(weights, cuts) == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 7])
def test_uniform_cuts_differ_by_at_most_one_unit(stages: int) -> None:
    lengths = [b - a for a, b in itertools.pairwise((0, *uniform_cuts(7, stages), 7))]
    assert max(lengths) - min(lengths) <= 1


def test_the_standard_pipeline_has_one_to_four_micro_batches_per_rank() -> None:
    pipeline = standard_pipeline(ranks_problem(2, 1.0))
    assert pipeline.kind is PipelineKind.ONE_F_ONE_B
    assert (pipeline.num_ranks, pipeline.micro_batches) == (2, 8)
    assert standard_pipeline(ranks_problem(2, 1.0, fixed=4)).micro_batches == 4
    assert standard_pipeline(ranks_problem(1, 1.0)).kind is PipelineKind.NONE


def test_no_standard_pipeline_is_said_so_and_has_a_nearest_one() -> None:
    few = ranks_problem(4, 1.0, fixed=2)
    with pytest.raises(InvalidInputError, match="from 4 to 16"):
        standard_pipeline(few)
    assert default_pipeline(few).kind is PipelineKind.GPIPE
    many = dataclasses.replace(few, world_size=64, micro_batches=None)
    with pytest.raises(InvalidInputError, match="world_size is 64 and the model has"):
        standard_pipeline(many)
    assert 64 % default_pipeline(many).num_ranks == 0
