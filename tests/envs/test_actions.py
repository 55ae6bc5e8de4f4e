"""Rows of decisions and the schedules they mean."""

from __future__ import annotations

import random

import pytest

from remora.envs.actions import (
    FilledGroup,
    Pace,
    Span,
    UnitAction,
    group_spans,
    nest_every_unit,
    to_schedule,
)
from remora.envs.structure import Structure, open_group_start
from remora.schedule.menu import is_recompute, keep_all_schedule
from remora.schedule.schedule import Action, Group
from remora.schedule.validate import validate
from tests.envs.toy import toy_case
from tests.problems import cpu_hardware, problem_of, toy_graph

K, F, R, C, N, X = UnitAction


@pytest.mark.parametrize(
    ("decisions", "spans"),
    [
        ((K, K, F), ()),
        ((R, C, K), (Span(0, 2, C),)),
        ((R, R, K), (Span(0, 2, C),)),
        ((C, R, N), (Span(0, 1, C), Span(1, 3, N))),
        ((K, R, X), (Span(1, 3, X),)),
        ((K, K, R), (Span(2, 3, C),)),
        ((R, F, C), (Span(0, 1, C), Span(2, 3, C))),
    ],
)
def test_spans_end_where_they_are_closed_or_interrupted(
    decisions: tuple[UnitAction, ...], spans: tuple[Span, ...]
) -> None:
    assert tuple(group_spans(decisions)) == spans


@pytest.mark.parametrize(
    ("decisions", "start"),
    [((), None), ((K,), None), ((R,), 0), ((R, C), None), ((C, R, R), 1), ((R, K), None)],
)
def test_an_open_group_begins_after_the_last_other_decision(
    decisions: tuple[UnitAction, ...], start: int | None
) -> None:
    assert open_group_start(decisions) == start


def test_keeping_every_unit_is_the_schedule_that_changes_nothing() -> None:
    problem = toy_case().problem
    decisions = [K] * len(problem.graph.units)
    assert to_schedule(problem, decisions, nest_every_unit) == keep_all_schedule(problem.graph)


def test_each_decision_says_what_its_name_says() -> None:
    problem = toy_case().problem
    memory = to_schedule(problem, (R, N, F, C, K), nest_every_unit).memory
    assert memory.groups == (Group(0, 2),)
    assert [is_recompute(option) for option in memory.options] == [True, True, False, True, False]
    assert Action.OFFLOAD in memory.options[2].distinct
    flat = to_schedule(problem, (R, C, X, K, K), nest_every_unit).memory
    assert flat.groups == (Group(0, 2), Group(2, 3, Action.OFFLOAD))
    assert not any(is_recompute(option) for option in flat.options)


def test_the_fill_function_places_what_is_inside_a_nested_group() -> None:
    problem = toy_case().problem
    child = Group(1, 3)
    memory = to_schedule(
        problem, (R, R, N, K, K), lambda *_: FilledGroup((child,), frozenset({0}))
    ).memory
    assert memory.groups == (Group(0, 3, children=(child,)),)
    assert [is_recompute(option) for option in memory.options] == [True, False, False, False, False]


def test_whatever_the_structure_allows_is_a_valid_schedule() -> None:
    problem = toy_case().problem
    structure = Structure(problem)
    rng = random.Random(0)
    for _ in range(200):
        decisions: list[int] = []
        while len(decisions) < structure.num_units:
            possible = structure.possible(decisions)
            decisions.append(rng.choice([a for a in UnitAction if possible[a]]))
        validate(problem, to_schedule(problem, decisions, nest_every_unit))


def test_without_a_way_to_the_host_nothing_can_be_offloaded() -> None:
    problem = problem_of(toy_graph(), hardware=cpu_hardware(host_pool="none"))
    possible = Structure(problem).possible([])
    assert not possible[F]
    assert not possible[X]
    assert possible[[K, R, C]].all()


def test_the_pace_of_copies_is_that_of_the_schedule() -> None:
    problem = toy_case().problem
    decisions = [K] * len(problem.graph.units)
    memory = to_schedule(problem, decisions, nest_every_unit, Pace(5, 3)).memory
    assert (memory.offload_window, memory.prefetch_distance) == (5, 3)
