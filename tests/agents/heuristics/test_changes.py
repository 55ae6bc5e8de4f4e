"""Greedy orders of changes, and how many of them are made."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from remora.agents.evaluation import Evaluator
from remora.agents.heuristics.changes import (
    ALL_PRICINGS,
    Change,
    GroupsWhen,
    Pricing,
    TieBreak,
    changes_of,
)
from remora.agents.heuristics.fill import fill, owner_of_units
from remora.agents.heuristics.shapes import shapes_of
from remora.agents.heuristics.space import Space
from remora.agents.registry import create
from remora.schedule.cuts import balanced_cuts
from remora.schedule.schedule import PipelineKind
from tests.agents.budgets import uneven_problem
from tests.agents.several_ranks import ranks_problem

LONG_S = 120.0


def units_of(changes: tuple[Change, ...]) -> list[Change]:
    return [change for change in changes if change.choice is not None]


def test_there_are_twelve_variants() -> None:
    assert len(set(ALL_PRICINGS)) == 12


@pytest.mark.parametrize("pricing", ALL_PRICINGS)
def test_prices_rise_and_a_unit_only_gets_leaner(pricing: Pricing) -> None:
    space = Space(uneven_problem(0.5))
    changes = changes_of(space, pricing)
    singles = units_of(changes)
    assert singles == sorted(singles, key=lambda change: change.price_s_per_byte)
    assert all(change.freed_bytes > 0 for change in changes)
    first_is_group = changes[0].choice is None
    assert first_is_group == (pricing.groups is GroupsWhen.FIRST)


def test_equal_prices_come_in_the_order_asked_for() -> None:
    space = Space(ranks_problem(1, 0.5, hidden=(64,) * 6))
    forward = units_of(changes_of(space, Pricing(tie_break=TieBreak.FORWARD)))
    backward = units_of(changes_of(space, Pricing(tie_break=TieBreak.BACKWARD)))
    assert forward != backward
    for changes, sign in ((forward, 1), (backward, -1)):
        for a, b in itertools.pairwise(changes):
            if a.price_s_per_byte == b.price_s_per_byte:
                assert sign * (b.start - a.start) >= 0


def test_copies_that_cost_nothing_come_first() -> None:
    problem = ranks_problem(1, 0.5)
    space = Space(problem)
    free = units_of(changes_of(space, Pricing(copy_cost=False)))
    assert free[0].price_s_per_byte == 0.0
    assert free[0].choice is not None
    assert space.offloads(free[0].choice.option)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_filling_fits_and_leaves_ranks_alone_that_fitted_before(ranks: int) -> None:
    problem = ranks_problem(ranks, 0.7)
    space = Space(problem)
    evaluator = Evaluator(problem, LONG_S)
    filled = fill(space, evaluator, space.keep_all, changes_of(space, Pricing()))
    assert filled is not None
    score = evaluator.score(filled)
    assert score.feasible
    kept = evaluator.score(space.keep_all)
    for rank, peak in enumerate(kept.peaks_bytes):
        if peak <= problem.budget_bytes:
            mine = [
                unit
                for unit, owner in enumerate(owner_of_units(space.pipeline, space.num_units))
                if owner == rank
            ]
            assert all(filled.memory.options[u] == space.menus[u][0] for u in mine)


def test_ranks_with_the_same_units_are_filled_together() -> None:
    problem = ranks_problem(4, 1.0)
    space = Space(problem)
    shape = next(s for s in shapes_of(problem) if s.kind is PipelineKind.CHIMERA)
    cuts = balanced_cuts([1.0] * space.num_units, shape.num_stages)
    start = space.with_parts(space.keep_all, pipeline=shape.cut(cuts))
    assert set(owner_of_units(start.pipeline, space.num_units)) == {0, 1}
    peak_bytes = Evaluator(problem, LONG_S).score(start).peak_bytes
    tight = dataclasses.replace(problem, budget_bytes=int(0.95 * peak_bytes))
    evaluator = Evaluator(tight, LONG_S)
    filled = fill(Space(tight), evaluator, start, changes_of(space, Pricing()))
    assert filled is not None
    assert evaluator.score(filled).feasible
    assert not evaluator.score(start).feasible


def test_single_variants_can_be_asked_for() -> None:
    problem = uneven_problem(0.4)
    evaluator = Evaluator(problem, LONG_S)
    alone = [
        create("greedy_variants", variants=[number], clean=False).propose(problem, LONG_S)
        for number in range(12)
    ]
    together = create("greedy_variants", clean=False).propose(problem, LONG_S)
    least_s = min(evaluator.score(plan).step_time_s for plan in alone)
    assert evaluator.score(together).step_time_s == pytest.approx(least_s)
