"""The ladder of plans that completes episodes, and the least memory at its end."""

from __future__ import annotations

import itertools

import pytest

from remora.envs.actions import UnitAction
from remora.envs.evaluation import DEFAULT_PACE
from remora.envs.polish import polish
from remora.envs.tables import CaseTables
from remora.simulator.floor import floor_schedule
from tests.envs.toy import toy_tables

HIDDEN = ((96, 16, 160), (32, 96, 64, 48))


@pytest.fixture(params=HIDDEN, ids=str)
def tables(request: pytest.FixtureRequest) -> CaseTables:
    return toy_tables(request.param)


def test_the_ladder_goes_from_keeping_everything_to_the_least_memory(tables: CaseTables) -> None:
    for ladder in tables.ladders:
        rows = ladder.rows
        assert set(rows[0]) == {UnitAction.KEEP}
        assert tables.evaluator.figures(rows[0], ladder.pace) == tables.keep_all
        assert rows[-1] == tables.least_memory
    peaks = [tables.evaluator.figures(rung).peak_bytes for rung in tables.ladders[0].rows]
    assert min(peaks) == peaks[-1] == tables.least_peak_bytes


def test_each_rung_changes_one_unit_for_good(tables: CaseTables) -> None:
    for ladder in tables.ladders:
        for before, after in itertools.pairwise(ladder.rows[:-1]):
            changed = [i for i in range(tables.num_units) if before[i] != after[i]]
            assert len(changed) == 1
            assert before[changed[0]] == UnitAction.KEEP


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_the_polished_rung_fits_and_is_no_slower_than_any_that_fits(
    tables: CaseTables, share: float
) -> None:
    budget_bytes = tables.budget_bytes(share)
    rungs = tables.rungs_under(budget_bytes)
    evaluator = tables.evaluator
    fitting = [
        row
        for row in rungs.rows
        if evaluator.fits(evaluator.figures(row, rungs.pace), budget_bytes)
    ]
    assert evaluator.figures(fitting[0], rungs.pace).step_time_s <= min(
        evaluator.figures(row).step_time_s
        for row in tables.ladders[0].rows
        if evaluator.fits(evaluator.figures(row), budget_bytes)
    )
    assert tables.rungs_under(budget_bytes) is rungs


def test_the_first_rung_down_has_the_lowest_price_of_all(tables: CaseTables) -> None:
    evaluator, keep = tables.evaluator, tables.ladders[0].rows[0]

    def price(decisions: tuple[int, ...]) -> float:
        figures = evaluator.figures(decisions)
        freed = tables.keep_all.peak_bytes - figures.peak_bytes
        slower_s = max(0.0, figures.step_time_s - tables.keep_all.step_time_s)
        return slower_s / freed if freed > 0 else float("inf")

    trials = [
        (*keep[:unit], int(action), *keep[unit + 1 :])
        for unit, possible in enumerate(tables.structure.possible_alone())
        for action in (UnitAction.OFFLOAD, UnitAction.CLOSE, UnitAction.CLOSE_OFFLOADED)
        if possible[action]
    ]
    assert price(tables.ladders[0].rows[1]) == min(price(trial) for trial in trials)


def test_the_least_memory_beats_simple_patterns_and_the_floor(tables: CaseTables) -> None:
    evaluator = tables.evaluator
    all_alone = tuple(
        int(UnitAction.CLOSE if free else UnitAction.KEEP) for free in tables.structure.recomputable
    )
    assert tables.least_peak_bytes <= evaluator.figures(all_alone).peak_bytes
    floor = evaluator.figures_of(floor_schedule(tables.problem))
    assert tables.least_peak_bytes <= floor.peak_bytes


def test_polishing_finds_single_changes_that_help(tables: CaseTables) -> None:
    wasteful = (int(UnitAction.CLOSE),) * (tables.num_units - 2) + (int(UnitAction.KEEP),) * 2
    start = tables.evaluator.figures(wasteful)
    polished = polish(
        tables.evaluator, tables.structure, wasteful, DEFAULT_PACE, tables.keep_all.peak_bytes
    )
    assert polished.figures.step_time_s < start.step_time_s
    assert polished.figures.step_time_s == pytest.approx(tables.keep_all.step_time_s)
    assert polished.figures == tables.evaluator.figures(polished.decisions, polished.pace)
