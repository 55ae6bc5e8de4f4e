"""A search among episodes: small changes of what a plan asks for, the faster plans kept.

Schedules that searches find often use the budget to its last bytes, where masks, which are judged
by upper bounds, are stricter. What is lost in the replay of such a schedule is won back here, among
plans that an episode can end in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from remora.agents.learned.imitation.replay import Replay, Replayer
from remora.agents.learned.imitation.wanted import Wanted, wanted_of
from remora.envs.actions import FIRST_OPTION, NUM_DECISIONS, PACES, STATES, UnitDecision
from remora.envs.problem_tables import ProblemTables

__all__ = ["refine"]

_TOGETHER = 16
"""Changed plans that are tried side by side."""

_PACE_SHARE, _STATE_SHARE, _CUT_SHARE = 0.1, 0.05, 0.2
"""How often pace, place of the state, or a cut where there is one changes instead of a unit."""

_EXCHANGES = 0.4
"""How often two units exchange decisions instead of one getting a new one."""

_CHANGES = (1, 2, 3)
"""Changes that are made at once."""


_UNITS = 64
"""Of a model that gets all rounds; one of more gets fewer, as each of them takes longer."""


def refine(
    replayer: Replayer,
    start: Replay,
    rounds: int,
    generator: np.random.Generator,
    stop: Callable[[], bool] = lambda: False,
) -> Replay:
    """Change an episode as long as that helps; the shape of the pipeline stays.

    Masks of passes are exact, so that nothing is lost there and nothing changes.

    Args:
        replayer: of the problem.
        start: where to begin.
        rounds: how often a handful of changed plans is tried at most, of 64 units or fewer; it ends
            early after a quarter of them in a row without a faster plan.
        generator: of the changes.
        stop: asked before every round, for example whether a time is over.

    Returns:
        An episode that is not slower.
    """
    tables = replayer.tables
    if not isinstance(tables, ProblemTables):
        return start
    # A round takes as long as the units of an episode times what is looked at for each of them.
    rounds = math.ceil(rounds * min(1.0, _UNITS / tables.num_units) ** 2)
    best, given_s = start, start.step_time_s / math.exp(start.slower)
    wanted = wanted_of(tables, best.schedule)
    tried = [replace(wanted, pace=(float(w), float(d))) for w, d in PACES]
    stale = 0
    for _ in range(rounds):
        if stop():
            break
        found = min(replayer.follow(tried, given_s), key=lambda replay: replay.step_time_s)
        stale += 1
        if found.step_time_s < best.step_time_s:
            best, wanted, stale = found, wanted_of(tables, found.schedule), 0
        if stale > rounds / 4:
            break
        tried = [_changed(tables, wanted, generator) for _ in range(_TOGETHER)]
    return best


def _changed(tables: ProblemTables, wanted: Wanted, generator: np.random.Generator) -> Wanted:
    for _ in range(generator.choice(_CHANGES)):
        drawn = generator.random()
        if drawn < _PACE_SHARE:
            window, distance = PACES[generator.integers(len(PACES))]
            wanted = replace(wanted, pace=(float(window), float(distance)))
        elif drawn < _PACE_SHARE + _STATE_SHARE:
            wanted = replace(wanted, state=STATES[generator.integers(len(STATES))])
        elif drawn < _PACE_SHARE + _STATE_SHARE + _CUT_SHARE and wanted.pipeline.cuts:
            wanted = replace(wanted, units=_cut_moved(wanted.units, generator))
        else:
            wanted = replace(wanted, units=_unit_changed(tables, wanted.units, generator))
    return wanted


def _unit_changed(
    tables: ProblemTables, units: tuple[int, ...], generator: np.random.Generator
) -> tuple[int, ...]:
    """Decide anew about one unit at random, or let two exchange what is decided about them."""
    changed = list(units)
    unit, other = generator.integers(len(units), size=2)
    if generator.random() < _EXCHANGES:
        for to, action in ((unit, units[other]), (other, units[unit])):
            decision = action % NUM_DECISIONS
            if decision < FIRST_OPTION + _num_options(tables, to):
                changed[to] = decision + _cut(units[to])
    else:
        decisions = [*UnitDecision, *range(FIRST_OPTION, FIRST_OPTION + _num_options(tables, unit))]
        changed[unit] = decisions[generator.integers(len(decisions))] + _cut(units[unit])
    return tuple(map(int, changed))


def _num_options(tables: ProblemTables, unit: int) -> int:
    """Menu entries beside keeping and recomputing the whole unit."""
    return max(len(tables.menus[unit]) - 2, 0)


def _cut_moved(units: tuple[int, ...], generator: np.random.Generator) -> tuple[int, ...]:
    """Let one stage end a unit earlier or later."""
    changed = list(units)
    ends = [unit for unit, action in enumerate(units) if action >= NUM_DECISIONS]
    end = ends[generator.integers(len(ends))]
    moved = end + (1 if generator.random() < 0.5 else -1)
    if 0 <= moved < len(units) - 1 and changed[moved] < NUM_DECISIONS:
        changed[end] -= NUM_DECISIONS
        changed[moved] += NUM_DECISIONS
    return tuple(changed)


def _cut(action: int) -> int:
    return NUM_DECISIONS if action >= NUM_DECISIONS else 0
