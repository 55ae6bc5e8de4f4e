"""The completion that needs least memory: what an episode falls back to, found by a fixed rule."""

from __future__ import annotations

from collections.abc import Iterator

from remora.envs.actions import UnitAction
from remora.envs.evaluation import PlanEvaluator
from remora.envs.structure import Structure
from remora.schedule.menu import is_recompute
from remora.schedule.schedule import MemoryPlan

__all__ = ["least_memory_decisions"]

_MAX_LENGTH = 12


def least_memory_decisions(
    evaluator: PlanEvaluator, structure: Structure, floor: MemoryPlan
) -> tuple[int, ...]:
    """Find the decisions of least peak among some simple patterns, ties to the faster.

    Tried: the plan of scheduler ``floor`` as decisions can say it, groups of equal length, kept
    and nested, everything offloaded; then single units of the best are kept or offloaded as long
    as that lowers the peak. Deterministic.

    Args:
        evaluator: predicts rows of decisions.
        structure: which decisions are possible.
        floor: the cheapest memory that recomputation alone reaches.

    Returns:
        One :class:`UnitAction` per unit.  # [num_units]
    """

    def rank(decisions: tuple[int, ...]) -> tuple[int, int, float]:
        figures = evaluator.figures(decisions)
        return evaluator.host_excess_bytes(figures), figures.peak_bytes, figures.step_time_s

    patterns = [
        _as_decisions(floor, structure),
        *_equal_lengths(structure),
        _offload_all(structure),
    ]
    best = min(patterns, key=rank)
    for index in range(structure.num_units):
        for action in (UnitAction.KEEP, UnitAction.OFFLOAD):
            if not structure.possible(best[:index])[action]:
                continue
            trial = (*best[:index], int(action), *best[index + 1 :])
            best = min(best, trial, key=rank)
    return best


def _as_decisions(plan: MemoryPlan, structure: Structure) -> tuple[int, ...]:
    decisions = [
        int(UnitAction.CLOSE if is_recompute(option) else UnitAction.KEEP)
        for option in plan.options
    ]
    for group in plan.groups:
        again = [is_recompute(option) for option in plan.options[group.start : group.end]]
        closing = UnitAction.CLOSE_NESTED if 2 * sum(again) > len(again) else UnitAction.CLOSE
        if len(again) == 1:
            closing = UnitAction.CLOSE
        decisions[group.start : group.end] = _group(len(again), closing)
    return tuple(
        decision if structure.recomputable[index] else int(UnitAction.KEEP)
        for index, decision in enumerate(decisions)
    )


def _equal_lengths(structure: Structure) -> Iterator[tuple[int, ...]]:
    for length in range(1, min(structure.num_units, _MAX_LENGTH) + 1):
        closings = (UnitAction.CLOSE, UnitAction.CLOSE_NESTED)
        for closing in closings if length > 1 else closings[:1]:
            decisions: list[int] = []
            for start, end in _free_spans(structure):
                decisions += [int(UnitAction.KEEP)] * (start - len(decisions))
                while len(decisions) < end:
                    size = min(length, end - len(decisions))
                    decisions += _group(size, closing if size > 1 else UnitAction.CLOSE)
            rest = structure.num_units - len(decisions)
            yield (*decisions, *([int(UnitAction.KEEP)] * rest))


def _free_spans(structure: Structure) -> list[tuple[int, int]]:
    """Maximal ranges of units that may be recomputed."""
    spans: list[tuple[int, int]] = []
    for index, free in enumerate(structure.recomputable):
        if not free:
            continue
        if spans and spans[-1][1] == index:
            spans[-1] = (spans[-1][0], index + 1)
        else:
            spans.append((index, index + 1))
    return spans


def _group(length: int, closing: UnitAction) -> list[int]:
    return [int(UnitAction.RECOMPUTE)] * (length - 1) + [int(closing)]


def _offload_all(structure: Structure) -> tuple[int, ...]:
    return tuple(
        int(UnitAction.OFFLOAD if offloads else UnitAction.KEEP)
        for offloads in structure.offloadable
    )
