"""Changing single decisions of a plan as long as that makes it faster within the budget."""

from __future__ import annotations

from dataclasses import dataclass

from remora.envs.actions import Pace, UnitAction
from remora.envs.evaluation import Figures, PlanEvaluator
from remora.envs.structure import Structure

__all__ = ["Polished", "polish"]

PACES = tuple(Pace(window, distance) for window in (1, 2, 3, 4, 6, 8) for distance in (1, 2, 4))
"""Paces of host copies that are tried."""

_CHOICES = (UnitAction.KEEP, UnitAction.OFFLOAD, UnitAction.CLOSE, UnitAction.CLOSE_OFFLOADED)

# Sums of the same durations in another order differ in the last digits.
_SAME_TIME = 1e-9


@dataclass(frozen=True, slots=True)
class Polished:
    """A plan that no single change makes faster, as far as was looked.

    Attributes:
        decisions: one per unit.  # [num_units]
        pace: of host copies.
        figures: what it costs.
    """

    decisions: tuple[int, ...]
    pace: Pace
    figures: Figures


def polish(
    evaluator: PlanEvaluator,
    structure: Structure,
    decisions: tuple[int, ...],
    pace: Pace,
    budget_bytes: int,
) -> Polished:
    """Improve a plan one unit at a time, then the pace of its copies, then its units again.

    Args:
        evaluator: predicts rows of decisions.
        structure: which decisions are possible.
        decisions: a plan that fits.  # [num_units]
        pace: of its host copies.
        budget_bytes: memory of the device.

    Returns:
        A plan that fits and is at least as fast.
    """
    best = Polished(decisions, pace, evaluator.figures(decisions, pace))
    best = _change_units(evaluator, structure, best, budget_bytes)
    for trial in PACES:
        best = _better_of(evaluator, best, best.decisions, trial, budget_bytes)
    if best.pace != pace:
        best = _change_units(evaluator, structure, best, budget_bytes)
    return best


def _change_units(
    evaluator: PlanEvaluator, structure: Structure, best: Polished, budget_bytes: int
) -> Polished:
    possible = structure.possible_alone()
    for unit in range(structure.num_units):
        for action in _CHOICES:
            if possible[unit][action] and action != best.decisions[unit]:
                trial = (*best.decisions[:unit], int(action), *best.decisions[unit + 1 :])
                best = _better_of(evaluator, best, trial, best.pace, budget_bytes)
    return best


def _better_of(
    evaluator: PlanEvaluator,
    best: Polished,
    decisions: tuple[int, ...],
    pace: Pace,
    budget_bytes: int,
) -> Polished:
    """The trial if it fits and is faster, or as fast with less memory; else the best so far."""
    figures = evaluator.figures(decisions, pace)
    if not evaluator.fits(figures, budget_bytes):
        return best
    difference_s = figures.step_time_s - best.figures.step_time_s
    same = abs(difference_s) <= _SAME_TIME * best.figures.step_time_s
    leaner = same and figures.peak_bytes < best.figures.peak_bytes
    if leaner or (not same and difference_s < 0):
        return Polished(decisions, pace, figures)
    return best
