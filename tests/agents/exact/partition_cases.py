"""Small instances of the partition program, and all that can be done about them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from remora.agents.exact.partition.loads import StageLoads, Team
from remora.agents.exact.partition.ranges import RangeTables
from remora.agents.exact.partition.stage_menu import StageMenu
from remora.schedule.schedule import UnitOption


class Instance(NamedTuple):
    """Whole numbers throughout, so that sums are exact."""

    tables: RangeTables
    menu: StageMenu
    loads: StageLoads
    message: np.ndarray
    limit: int


class Plan(NamedTuple):
    """One choice of cuts and options."""

    path: int
    slowest: int
    fullest_bytes: int


def sums(values: list[int]) -> np.ndarray:
    return ranges(values, sum)


def largest(values: list[int]) -> np.ndarray:
    return ranges(values, max)


def ranges(values: list[int], of: Callable[[list[int]], int]) -> np.ndarray:
    table = np.zeros((len(values) + 1, len(values) + 1))
    for a, b in itertools.combinations(range(len(values) + 1), 2):
        table[a, b] = of(values[a:b])
    return table


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    units = draw(st.integers(1, 5))
    stages = draw(st.integers(1, min(3, units)))

    def numbers(count: int, low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    tables = RangeTables(
        seconds=sums(numbers(units, 1, 9)),
        state_bytes=sums(numbers(units, 0, 9)),
        step_bytes=largest(numbers(units, 0, 40)),
        pass_bytes=sums(numbers(units, 0, 2)),
        work_bytes=largest(numbers(units, 0, 9)),
        arriving_bytes=np.zeros((units + 1, units + 1)),
        returning_bytes=np.zeros((units + 1, units + 1)),
    )
    held, extra = np.full((units, 3), np.inf), np.full((units, 3), np.inf)
    for unit in range(units):
        options = draw(st.integers(1, 3))
        held[unit, :options] = sorted(numbers(options, 0, 12), reverse=True)
        extra[unit, :options] = sorted(numbers(options, 0, 5))
    menu = StageMenu(((UnitOption(()),) * 3,) * units, held, extra)
    loads = StageLoads(
        tuple(map(float, numbers(stages, 1, 3))),
        tuple(numbers(stages, 1, 3)),
        tuple(Team((s,), (s,)) for s in range(stages)),
    )
    sizes = [units + 1, units + 1]
    message = np.array(numbers(stages * sizes[0] * sizes[1], 0, 3)).reshape(stages, *sizes)
    case = Instance(tables, menu, loads, message.astype(float), 1)
    # A limit at which something just fits, or just does not.
    needs = sorted({plan.fullest_bytes for plan in all_plans(case)})
    limit = draw(st.sampled_from(needs)) - draw(st.integers(0, 1))
    return case._replace(limit=max(1, limit))


def all_plans(case: Instance) -> Iterator[Plan]:
    """Every choice of cuts and options."""
    units, stages = case.tables.num_units, case.loads.num_stages
    counts = np.isfinite(case.menu.extra_s).sum(axis=1)
    for cuts in itertools.combinations(range(1, units), stages - 1):
        spans = list(itertools.pairwise((0, *cuts, units)))
        sent = sum(case.message[stage, a, b] for stage, (a, b) in enumerate(spans))
        for choice in itertools.product(*map(range, counts)):
            seconds = [stage_seconds(case, span, choice) for span in spans]
            num_bytes = [stage_bytes(case, s, span, choice) for s, span in enumerate(spans)]
            yield Plan(int(sum(seconds) + sent), int(max(seconds)), int(max(num_bytes)))


def stage_seconds(case: Instance, span: tuple[int, int], choice: tuple[int, ...]) -> float:
    return case.tables.seconds[span] + sum(case.menu.extra_s[u, choice[u]] for u in range(*span))


def stage_bytes(
    case: Instance, stage: int, span: tuple[int, int], choice: tuple[int, ...]
) -> float:
    tables, loads = case.tables, case.loads
    held = sum(case.menu.held_bytes[u, choice[u]] for u in range(*span))
    now = max(loads.in_flight[stage] * held + tables.work_bytes[span], tables.step_bytes[span])
    return tables.state_bytes[span] + loads.passes[stage] * tables.pass_bytes[span] + now
