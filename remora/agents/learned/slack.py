"""Plans decoded under budgets above the real one, of which those are kept that fit it.

Masks judge by upper bounds, so that every plan fits; plans made for a little more memory often fit,
too, and are faster. How much more is found out for each problem: greedy plans under a few budgets
say between which two plans begin to be too large, and a few more in between say it closer.
"""

from __future__ import annotations

import numpy as np

from remora.agents.learned.decoding import Decoded, Decoder
from remora.envs.problem_tables import ProblemTables
from remora.simulator.compiled import simulator_of

__all__ = ["fitting_plans"]

SLACKS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Shares of what keeping everything takes beyond the least budget."""

BETWEEN = 7
"""Budgets between the largest that led to a plan that fits and the next one."""

LARGEST = 4
"""Budgets under which plans are drawn: the largest that led to plans that fit."""


def fitting_plans(
    decoder: Decoder,
    tables: ProblemTables,
    budget_bytes: int,
    samples: int,
    generator: np.random.Generator,
    temperature: float = 1.0,
) -> list[Decoded]:
    """Greedy plans and drawn ones that fit; none where even the least episode does not.

    Args:
        decoder: of the problem.
        tables: of the problem.
        budget_bytes: the real budget.
        samples: plans that are drawn.
        generator: draws.
        temperature: of the draws.
    """
    least = max(budget_bytes, tables.least_bytes)
    budgets = [least + round(slack * tables.span_bytes) for slack in SLACKS]
    found = decoder.greedy_under(budgets)
    fitting = [_fits(tables, plan, budget_bytes) for plan in found]
    kept = [plan for plan, fits in zip(found, fitting, strict=True) if fits]
    good = [budget for budget, fits in zip(budgets, fitting, strict=False) if fits]
    above = [budget for budget in budgets if budget > max(good, default=0)]
    if good and above:
        between = np.linspace(good[-1], above[0], BETWEEN + 2)[1:-1].astype(np.int64).tolist()
        more = decoder.greedy_under(between)
        fitting = [_fits(tables, plan, budget_bytes) for plan in more]
        kept += [plan for plan, fits in zip(more, fitting, strict=True) if fits]
        good += [budget for budget, fits in zip(between, fitting, strict=False) if fits]
    if samples:
        largest = tuple(sorted({*good, least}, reverse=True)[:LARGEST])
        drawn = decoder.samples(samples, generator, temperature, largest)
        kept += [plan for plan in drawn if _fits(tables, plan, budget_bytes)]
    return kept


def _fits(tables: ProblemTables, plan: Decoded, budget_bytes: int) -> bool:
    figures = simulator_of(tables.problem).figures(plan.schedule)
    host = tables.problem.hardware.host.memory_bytes
    return figures.max_peak_bytes <= budget_bytes and max(figures.host_peak_bytes) <= host
