"""Comparing a policy with other schedulers."""

from __future__ import annotations

import pytest

from remora.agents.learned.comparison import (
    GREEDY_DECODE,
    SAMPLED_DECODE,
    Comparison,
    Result,
    compare,
    summarise,
)
from remora.envs.episode import Episode
from tests.agents.learned.policies import untrained
from tests.envs.toy import toy_tables


def _row(mine: float | None, other: float | None) -> Comparison:
    results = {GREEDY_DECODE: Result(mine, 0.0), "random": Result(other, 0.0)}
    return Comparison("case", 1, 0.5, results)


def test_gaps_are_ratios_of_step_times() -> None:
    assert _row(0.1, 0.0).gap(GREEDY_DECODE, "random") == pytest.approx(0.1)
    assert _row(0.2, 0.6).gap(GREEDY_DECODE, "random") == pytest.approx(-0.25)
    assert _row(0.2, None).gap(GREEDY_DECODE, "random") is None


def test_a_summary_counts_problems_with_both_plans() -> None:
    rows = [_row(0.0, 0.0), _row(0.2, 0.5), _row(0.5, 0.2), _row(0.1, None)]
    summary = summarise(rows, GREEDY_DECODE, "random")
    assert summary["problems"] == 3
    assert summary["at_least_as_fast"] == pytest.approx(2 / 3)
    assert summary["median_gap"] == pytest.approx(0.0)
    assert summary["mean_gap"] == pytest.approx(0.0)
    assert summary["worst_gap"] == pytest.approx(0.25)
    assert summarise(rows[3:], GREEDY_DECODE, "random") == {}


def test_policy_and_schedulers_answer_the_same_problem() -> None:
    tables = toy_tables()
    problems = [(share, Episode(tables, tables.budget_bytes(share))) for share in (0.3, 1.0)]
    tight, roomy = compare(untrained(), problems, {"keep_all": {}, "floor": {}}, 2, 0)
    assert (tight.share, roomy.share) == (0.3, 1.0)
    assert tight.results["keep_all"].overhead is None
    assert roomy.results["keep_all"].overhead == pytest.approx(0.0)
    for row in (tight, roomy):
        greedy, sampled = row.results[GREEDY_DECODE], row.results[SAMPLED_DECODE]
        assert greedy.overhead is not None
        assert sampled.overhead is not None
        assert sampled.overhead <= greedy.overhead
