"""Episodes: sound masks, no dead ends, rewards that add up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from remora.envs.actions import UnitAction
from remora.envs.episode import Episode
from remora.envs.tables import CaseTables
from remora.errors import InvalidInputError
from remora.simulator.floor import floor_peak_bytes
from remora.simulator.simulate import simulate
from tests.envs.toy import toy_case, toy_tables


def _finished(episode: Episode) -> list[Episode]:
    """Every end that can be reached from a state; fails where one is a dead end."""
    if episode.done:
        return [episode]
    assert episode.mask.any()
    assert episode.mask[episode.fallback]
    return [
        end
        for action in np.flatnonzero(episode.mask)
        for end in _finished(episode.after(int(action)))
    ]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_every_reachable_end_fits_the_budget(share: float) -> None:
    tables = toy_tables()
    episode = Episode(tables, tables.budget_bytes(share))
    ends = _finished(episode)
    assert ends
    for end in ends:
        timeline = simulate(tables.problem, end.schedule())
        assert timeline.max_peak_bytes <= episode.budget_bytes
        assert timeline.step_time_s == pytest.approx(end.figures.step_time_s, rel=1e-12)


def test_a_budget_for_everything_allows_everything_that_is_possible() -> None:
    tables = toy_tables()
    episode = Episode(tables, 2**40)
    assert (episode.mask == tables.structure.possible(())).all()
    best = min(_finished(episode), key=lambda end: end.cost)
    assert best.cost == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_following_the_rung_never_gets_slower(share: float) -> None:
    tables = toy_tables()
    episode = Episode(tables, tables.budget_bytes(share))
    while not episode.done:
        following = episode.after(episode.fallback)
        assert following.cost <= episode.cost + 1e-12
        episode = following


def test_the_least_memory_is_no_more_than_that_of_recomputation_alone() -> None:
    tables = toy_tables()
    assert tables.floor_peak_bytes == floor_peak_bytes(tables.problem)
    assert tables.least_peak_bytes <= tables.floor_peak_bytes < tables.keep_all.peak_bytes
    assert tables.budget_bytes(0.0) == max(tables.floor_peak_bytes, tables.least_peak_bytes)
    assert tables.budget_bytes(1.0) == tables.keep_all.peak_bytes


def test_the_cost_is_the_log_of_the_simulated_overhead() -> None:
    tables = toy_tables()
    episode = Episode(tables, tables.budget_bytes(0.2))
    while not episode.done:
        episode = episode.after(int(np.flatnonzero(episode.mask)[-1]))
    step_time_s = simulate(tables.problem, episode.schedule()).step_time_s
    assert episode.cost == pytest.approx(math.log(step_time_s / tables.keep_all.step_time_s))


def test_a_budget_below_the_least_is_refused_by_name() -> None:
    tables = toy_tables()
    with pytest.raises(InvalidInputError, match=f"at least {tables.least_peak_bytes}"):
        Episode(tables, tables.least_peak_bytes - 1)


def test_a_masked_decision_is_refused_by_name() -> None:
    tables = toy_tables()
    episode = Episode(tables, tables.budget_bytes(0.0))
    with pytest.raises(InvalidInputError, match="CLOSE_NESTED at unit 0; allowed: "):
        episode.after(UnitAction.CLOSE_NESTED)


def test_one_plan_is_simulated_once() -> None:
    calls = 0

    class Counting:
        name = "counting"

        def estimate(self, problem, schedule):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            return inner.estimate(problem, schedule)

    from remora.cost_models.simulated import SimulatedCostModel
    from remora.envs.actions import nest_every_unit

    inner = SimulatedCostModel("test")
    tables = CaseTables(toy_case(), Counting(), nest_every_unit)

    def play() -> int:
        episode = Episode(tables, tables.budget_bytes(0.3))
        while not episode.done:
            episode = episode.after(episode.fallback)
        return calls

    assert play() == play() > 0
