from __future__ import annotations

from dataclasses import replace

from remora.report.content import CandidateRow
from remora.report.contribution import contribution_sentences


def row(name: str, step_time_s: float | None, **values: object) -> CandidateRow:
    feasible = step_time_s is not None
    plain = CandidateRow(name, step_time_s, 1 if feasible else None, 0.1, feasible)
    return replace(plain, **values)  # type: ignore[arg-type]


def test_nothing_is_said_where_no_policy_was_asked() -> None:
    assert contribution_sentences([row("greedy", 1.0, chosen=True)]) == []
    assert contribution_sentences([row("learned", 1.0, chosen=True)]) == []


def test_a_policy_that_won_is_held_against_the_pool_without_it() -> None:
    rows = [row("greedy", 1.1), row("learned", 1.05), row("balanced", 1.2)]
    [said] = contribution_sentences([*rows, row("polished", 1.0, chosen=True, origin="learned")])
    assert "began from the policy's" in said
    assert "greedy, 1.10 s (+10.0 %)" in said
    [said] = contribution_sentences([rows[0], replace(rows[1], chosen=True), rows[2]])
    assert "is the policy's" in said


def test_a_policy_that_lost_says_who_won() -> None:
    rows = [row("greedy", 1.1), row("learned", 1.3)]
    [said] = contribution_sentences([*rows, row("polished", 1.0, chosen=True, origin="greedy")])
    assert "own plan takes 1.30 s" in said
    assert "began from that of greedy" in said


def test_plans_that_are_not_the_policy_s_are_not_called_so() -> None:
    asked = row("learned", 1.0, chosen=True, origin="rank_greedy")
    [said] = contribution_sentences([row("greedy", 1.1), asked])
    assert "decoded no plan" in said
    assert said.endswith("learned began from plans of rank_greedy.")


def test_a_policy_that_alone_fits_or_does_not_fit() -> None:
    alone = [row("greedy", None), row("learned", 1.3, chosen=True)]
    assert contribution_sentences(alone) == [
        "The plan is the policy's; without it nothing would fit."
    ]
    none = [row("greedy", 1.0, chosen=True), row("learned", None)]
    assert contribution_sentences(none) == ["The policy found no plan that fits."]
