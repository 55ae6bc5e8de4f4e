"""Plans decoded under budgets above the real one, of which those are kept that fit it.

Masks judge by upper bounds, so that every plan fits; plans made for a little more memory often fit,
too, and are faster. How much more is found out for each problem: greedy plans under a few budgets
say between which two plans begin to be too large, and a few more in between say it closer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from remora.agents.learned.decoding import Decoded, Decoder
from remora.envs.plan_tables import PlanTables
from remora.envs.problem_tables import ProblemTables
from remora.simulator.compiled import simulator_of

__all__ = ["fitting_plans"]

LOOKED = (0.0, 0.04, 0.16)
"""Slacks under which ways to begin a pipeline are looked for."""

LARGEST = 4
"""Budgets under which plans are drawn: the largest that led to plans that fit."""


@dataclass(frozen=True)
class _Breadth:
    """How much is tried.

    Attributes:
        slacks: shares of what keeping everything takes beyond the least budget.
        between: budgets between the largest that led to a plan that fits and the next one.
        beginnings: ways to begin that are tried whatever their likelihood, under each budget.
        followed: of these, those of the fastest plans are followed under other budgets, too.
    """

    slacks: tuple[float, ...]
    between: int
    beginnings: int
    followed: int


_ON_ONE_DEVICE = _Breadth((0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32), 7, 0, 1)
# Steps of pipelines take ten times as long, and a wrong pipeline costs more than a wrong option.
_IN_PIPELINES = _Breadth((0.01, 0.03, 0.08, 0.16, 0.32), 3, 2, 3)


def fitting_plans(
    decoder: Decoder,
    tables: PlanTables,
    budget_bytes: int,
    samples: int,
    generator: np.random.Generator,
    temperature: float = 1.0,
) -> list[Decoded]:
    """Greedy plans and drawn ones that fit; none where even the least episode does not.

    Masks of passes are exact: there is no slack to look for.

    Args:
        decoder: of the problem.
        tables: of the problem.
        budget_bytes: the real budget.
        samples: plans that are drawn.
        generator: draws.
        temperature: of the draws.
    """
    if not isinstance(tables, ProblemTables):
        if budget_bytes < tables.least_bytes:
            return []
        return [decoder.greedy(), *decoder.samples(samples, generator, temperature)]
    breadth = _IN_PIPELINES if tables.shapes else _ON_ONE_DEVICE
    least = max(budget_bytes, tables.least_bytes)
    higher = [least + round(slack * tables.span_bytes) for slack in breadth.slacks]
    first = _first_asked(decoder, tables, least, breadth.beginnings)
    tried = _tried(decoder, tables, budget_bytes, first)
    ways = _best_ways(tried, breadth.followed)
    tried |= _tried(decoder, tables, budget_bytes, [(b, way) for way in ways for b in higher])
    between = [asked for way in ways for asked in _between(tried, way, breadth.between)]
    tried |= _tried(decoder, tables, budget_bytes, between)
    kept = [plan for plan, fits in tried.values() if plan is not None and fits]
    if samples:
        good = {budget for (budget, way), (_, fits) in tried.items() if fits and way == ways[0]}
        largest = tuple(sorted({*good, least}, reverse=True)[:LARGEST])
        drawn = decoder.samples(samples, generator, temperature, largest)
        kept += [plan for plan in drawn if _fits(tables, plan, budget_bytes)]
    return kept


_Asked = tuple[int, tuple[int, ...]]
"""A budget, and what is done first."""


def _first_asked(
    decoder: Decoder, tables: ProblemTables, least: int, beginnings: int
) -> list[_Asked]:
    """Whatever is likeliest, and other beginnings of pipelines, each with the first budget for it.

    Masks are strictest where ranks hold several stages, so beginnings are looked for under more
    memory than there is, too.
    """
    found: dict[tuple[int, ...], int] = {(): least}
    if beginnings:
        for share in LOOKED:
            budget = least + round(share * tables.span_bytes)
            for way in decoder.beginnings(beginnings, budget):
                found.setdefault(way, budget)
    return [(budget, way) for way, budget in found.items()]


def _best_ways(
    tried: Mapping[_Asked, tuple[Decoded | None, bool]], count: int
) -> list[tuple[int, ...]]:
    """That of the fastest plan that fits, then those of the fastest others."""
    plans = [
        (plan.step_time_s, fits, way)
        for (_, way), (plan, fits) in tried.items()
        if plan is not None
    ]
    fitting = [way for _, fits, way in sorted(plans) if fits][:1]
    others = [way for _, _, way in sorted(plans) if way not in fitting]
    return [*fitting, *others][:count] or [()]


def _tried(
    decoder: Decoder, tables: ProblemTables, budget_bytes: int, asked: list[_Asked]
) -> dict[_Asked, tuple[Decoded | None, bool]]:
    """Greedy plans, and whether each fits."""
    if not asked:
        return {}
    found = decoder.greedy_under(asked)
    return {
        one: (plan, plan is not None and _fits(tables, plan, budget_bytes))
        for one, plan in zip(asked, found, strict=True)
    }


def _between(
    tried: Mapping[_Asked, tuple[Decoded | None, bool]], way: tuple[int, ...], count: int
) -> list[_Asked]:
    """Budgets between the largest of one beginning that led to a plan that fits and the next."""
    fitting = {budget: fits for (budget, own), (_, fits) in tried.items() if own == way}
    largest = max((budget for budget, fits in fitting.items() if fits), default=0)
    above = min((budget for budget in fitting if budget > largest), default=0)
    if not largest or not above:
        return []
    inner = np.linspace(largest, above, count + 2)[1:-1].astype(np.int64).tolist()
    return [(budget, way) for budget in inner]


def _fits(tables: ProblemTables, plan: Decoded, budget_bytes: int) -> bool:
    figures = simulator_of(tables.problem).figures(plan.schedule)
    host = tables.problem.hardware.host.memory_bytes
    return figures.max_peak_bytes <= budget_bytes and max(figures.host_peak_bytes) <= host
