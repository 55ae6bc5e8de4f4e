"""Alternatives of every unit: priced, simulated, and written as pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from remora.api.alternatives import Planned, unit_choices
from remora.api.plan import Plan
from remora.errors import InvalidInputError
from remora.report.unit_choice import UnitChoice
from remora.schedule.schedule import Group, MemoryPlan
from remora.simulator.simulate import simulate
from tests.api.small_models import small_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan("range:0.3", agent="greedy")


@pytest.fixture(scope="module")
def choices(plan: Plan) -> tuple[UnitChoice, ...]:
    return plan.explained_content().choices


def test_every_unit_takes_one_of_its_alternatives(
    plan: Plan, choices: tuple[UnitChoice, ...]
) -> None:
    assert [choice.index for choice in choices] == list(range(len(plan.problem.graph.units)))
    for choice in choices:
        assert sum(a.taken for a in choice.alternatives) == 1
        assert {a.family for a in choice.alternatives} >= {"keep"}


def test_effects_are_those_of_the_whole_step(plan: Plan, choices: tuple[UnitChoice, ...]) -> None:
    timeline = plan.timeline
    judged = [(c, a) for c in choices for a in c.alternatives if a.effect is not None]
    assert judged
    for choice, alternative in judged:
        assert alternative.effect is not None
        if alternative.family == "keep":
            saved = choice.taken
            assert saved is not None
            # Nothing that is kept instead makes a step of one busy device longer.
            assert alternative.effect.more_s <= 1e-9
            assert alternative.held_bytes >= saved.held_bytes
        over = timeline.max_peak_bytes + alternative.effect.more_bytes - plan.budget_bytes
        assert alternative.effect.over_bytes == over


def test_a_unit_of_a_group_is_recomputed_with_it(plan: Plan) -> None:
    import dataclasses

    from remora.schedule.menu import keep_option

    options = tuple(keep_option(unit) for unit in plan.problem.graph.units)
    schedule = dataclasses.replace(plan.schedule, memory=MemoryPlan(options, (Group(1, 3),)))
    timeline = simulate(plan.problem, schedule)
    planned = Planned(plan.problem, schedule, timeline, timeline.max_peak_bytes)
    _, second, third, fourth, *_ = unit_choices(planned)
    for choice in (second, third):
        assert choice.taken is not None
        assert choice.taken.family == "recompute"
        assert choice.taken.time_s > 0
        assert choice.groups == ("1-2",)
    assert second.taken is not None
    assert third.taken is not None
    assert second.taken.held_bytes > third.taken.held_bytes == 0
    assert fourth.taken is not None
    assert fourth.taken.family == "keep"


def test_pictures_are_written_in_every_form(plan: Plan, tmp_path: Path) -> None:
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    for form, start in starts.items():
        files = plan.figures(tmp_path / form, form)
        names = {f"pipeline.{form}", f"memory.{form}", f"units.{form}"}
        assert {path.name for path in files} == names
        assert all(path.read_bytes().startswith(start) for path in files)
    again = plan.figures(tmp_path / "again")
    assert [path.read_bytes() for path in again] == [
        (tmp_path / "svg" / path.name).read_bytes() for path in again
    ]


def test_an_unknown_form_is_refused(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="figures is 'gif', allowed: png, svg, pdf"):
        plan.figures(tmp_path, "gif")
