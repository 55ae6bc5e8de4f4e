"""Races of pipelines, annealing, and moves over all parts of a schedule."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest

from remora.agents.evaluation import Evaluator
from remora.agents.heuristics.annealing import anneal
from remora.agents.heuristics.moves import random_move
from remora.agents.heuristics.race import race
from remora.agents.heuristics.rank_greedy import contestants
from remora.agents.heuristics.shapes import shape_of, shapes_of
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.states import states_of
from remora.agents.heuristics.stretch import Stretch
from remora.errors import InvalidInputError
from remora.schedule.cuts import default_pipeline
from remora.schedule.schedule import PipelineKind, Placement, StatePlan
from remora.schedule.validate import validate
from tests.agents.several_ranks import ranks_problem

LONG_S = 120.0


@pytest.mark.parametrize("seed", range(3))
def test_a_walk_over_everything_stays_valid_and_gets_everywhere(seed: int) -> None:
    problem = ranks_problem(4, 0.5)
    space, rng = Space(problem), Random(seed)
    current = space.keep_all
    kinds, states, cuts = set(), set(), set()
    for _ in range(600):
        current = random_move(space, current, rng)
        validate(problem, current)
        kinds.add(shape_of(current.pipeline))
        states.add(current.state)
        cuts.add(current.pipeline.cuts)
    assert len({shape.kind for shape in kinds}) >= 4
    assert len({shape.num_ranks for shape in kinds}) >= 2
    assert any(state.zero_stage for state in states)
    assert any(state.streamed_units for state in states)
    assert len(cuts) > 10


def test_shapes_are_those_that_the_rules_allow() -> None:
    problem = ranks_problem(4, 0.5)
    shapes = shapes_of(problem)
    assert len(set(shapes)) == len(shapes)
    space = Space(problem)
    for shape in shapes:
        cuts = tuple(range(1, shape.num_stages))
        validate(problem, space.with_parts(space.keep_all, pipeline=shape.cut(cuts)))
    assert {s.kind for s in shapes} == set(PipelineKind)
    fixed = dataclasses.replace(problem, micro_batches=8)
    assert {s.micro_batches for s in shapes_of(fixed)} == {8}


def test_contestants_are_the_best_of_their_shape_and_fit() -> None:
    problem = ranks_problem(4, 0.4)
    evaluator = Evaluator(problem, LONG_S)
    found = contestants(Space(problem), evaluator)
    assert len({shape_of(plan.pipeline) for plan in found}) == len(found) > 1
    scores = [evaluator.score(plan) for plan in found]
    assert all(score.feasible for score in scores)
    assert [s.step_time_s for s in scores] == sorted(s.step_time_s for s in scores)


def test_a_race_never_loses_its_best_start_and_stays_within_its_stretch() -> None:
    problem = ranks_problem(4, 0.4)
    evaluator, space = Evaluator(problem, LONG_S), Space(problem)
    starts = contestants(space, evaluator)
    before = evaluator.score(starts[0]).step_time_s
    made = evaluator.evaluations
    race(space, evaluator, starts, Stretch(evaluator, 300), Random(0))
    assert evaluator.best is not None
    assert evaluator.score(evaluator.best).step_time_s <= before
    assert evaluator.evaluations - made <= 300 + 2 * len(starts)


def test_annealing_comes_back_under_the_budget() -> None:
    problem = ranks_problem(2, 0.3)
    evaluator, space = Evaluator(problem, LONG_S), Space(problem)
    # From a start that does not fit, only a walk that minds the budget ends in one that does.
    assert not evaluator.score(space.keep_all).feasible
    anneal(space, evaluator, space.keep_all, Stretch(evaluator, 3000), Random(0))
    assert evaluator.best is not None


def test_states_follow_what_the_problem_allows() -> None:
    problem = ranks_problem(4, 0.5)
    whole = default_pipeline(problem)
    states = states_of(problem, whole)
    assert states[0] == StatePlan()
    assert {state.zero_stage for state in states} == {0}
    assert {state.optimizer for state in states} == {Placement.DEVICE, Placement.HOST}
    lossy = states_of(dataclasses.replace(problem, allow_lossy=True), whole)
    assert Placement.EIGHT_BIT in {state.optimizer for state in lossy}
    resident = dataclasses.replace(problem, state_on_device=True)
    assert states_of(resident, whole) == (StatePlan(),)
    space = Space(problem)
    moved = space.with_parts(space.keep_all, state=StatePlan(optimizer=Placement.HOST))
    with pytest.raises(InvalidInputError, match="state_on_device is true"):
        validate(resident, moved)
