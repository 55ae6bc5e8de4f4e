"""How long the step of a pipeline is likely to take with some memory, from two plans of it.

Between keeping everything and recomputing every unit, seconds are taken to grow evenly with the
bytes that have to go. On drawn problems the fastest pipeline is nearly always among the eight that
this puts first.
"""

from __future__ import annotations

__all__ = ["likely_step_s"]

_BELOW = 4.0
"""A share of the budget that even recomputing every unit lacks costs so many shares of a step."""


def likely_step_s(
    kept_s: float, kept_bytes: float, again_s: float, again_bytes: float, budget_bytes: float
) -> float:
    """Guess the step time of the best plan with balanced cuts.

    Args:
        kept_s: seconds of keeping everything.
        kept_bytes: its peak.
        again_s: seconds of recomputing every unit.
        again_bytes: its peak.
        budget_bytes: memory of a rank.
    """
    if kept_bytes <= budget_bytes:
        return kept_s
    if again_bytes >= min(kept_bytes, budget_bytes):
        lacking = max(0.0, again_bytes - budget_bytes) / budget_bytes
        return max(kept_s, again_s) * (1.0 + _BELOW * lacking)
    return kept_s + (again_s - kept_s) * (kept_bytes - budget_bytes) / (kept_bytes - again_bytes)
