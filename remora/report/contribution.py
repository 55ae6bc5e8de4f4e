"""What a trained policy contributed to a plan, in words."""

from __future__ import annotations

from collections.abc import Sequence

from remora.report.content import CandidateRow
from remora.report.wording import duration_text, overhead_text

__all__ = ["contribution_sentences"]

POLICY = "learned"
"""Name of the scheduler that asks a policy."""


def contribution_sentences(candidates: Sequence[CandidateRow]) -> list[str]:
    """Say whether the policy's plan won, and what the plan would be without it.

    Args:
        candidates: rows of the table; one may be the policy's, and one be chosen.

    Returns:
        One sentence; none where no policy was asked beside others.
    """
    policy = next((row for row in candidates if row.name == POLICY), None)
    chosen = next((row for row in candidates if row.chosen), None)
    if policy is None or chosen is None or len(candidates) == 1:
        return []
    if not policy.feasible or policy.step_time_s is None:
        return ["The policy found no plan that fits."]
    if policy.origin:
        return [
            f"The policy decoded no plan that fits in the time there was: {POLICY} began from "
            f"plans of {policy.origin}."
        ]
    if POLICY in (chosen.name, chosen.origin):
        return [_with(chosen, _others(candidates))]
    winner = chosen.origin or chosen.name
    return [
        f"The policy's own plan takes {duration_text(policy.step_time_s)}; the one chosen "
        f"{'began from that' if chosen.origin else 'is that'} of {winner}."
    ]


def _with(chosen: CandidateRow, others: Sequence[CandidateRow]) -> str:
    what = "is the policy's" if chosen.name == POLICY else "began from the policy's"
    best = min(others, key=lambda row: row.step_time_s or 0.0, default=None)
    if best is None or best.step_time_s is None or chosen.step_time_s is None:
        return f"The plan {what}; without it nothing would fit."
    more = overhead_text(best.step_time_s, chosen.step_time_s)
    return (
        f"The plan {what}; without it, and without polishing, the fastest is that of {best.name}, "
        f"{duration_text(best.step_time_s)} ({more})."
    )


def _others(candidates: Sequence[CandidateRow]) -> list[CandidateRow]:
    """Plans that fit and owe the policy nothing."""
    return [
        row
        for row in candidates
        if row.feasible and row.step_time_s is not None and POLICY not in (row.name, row.origin)
    ]
