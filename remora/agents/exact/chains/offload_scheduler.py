"""Scheduler ``recompute_offload``: recomputation and host copies by one dynamic program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded, check_one_device
from remora.agents.exact.chains.offload_chain import OffloadChain
from remora.agents.exact.chains.offload_of_problem import offload_chain, schedule_of
from remora.agents.exact.chains.offload_table import Block, OffloadTable, build_offload_table
from remora.agents.exact.chains.rotor_chain import keep_all_need
from remora.agents.exact.slots import check_slots
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.space import Space
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["RecomputeOffload", "recompute_offload_search"]

Blocks = tuple[Block, ...]

_PARTS_PER_SLOT = 2
# Budgets of the program that are tried, spread evenly over the memory of keep-all.
_BUDGETS = 100
_PACES = (1, 2, 4, 8, 16, 32)
_STEPS = (1, 2, 4, -1, -2, -4)
# Entries of the table that one second fills at least, and the share of the time to spend on them.
_ENTRIES_PER_S = 2e8
_TABLE_SHARE = 0.5


@dataclass(frozen=True)
class _Link:
    """How the program sees the copies.

    Attributes:
        slowness: time of a copy over its true time.
        most_share: most memory of keep-all on its way at once, 0 for no copies.
    """

    slowness: float
    most_share: float


# What the program does not see makes its plans copy too much or too little: the simulator holds a
# moved set until the whole of it has left, at one pace for all units, but pays no wait twice.
# Where large sets may be on their way, it prefers them, although small ones serve better at times.
_VIEWS = ((1.0, 0.0), (0.8, 0.1), (1.0, 0.1), (1.2, 0.1), (1.0, 0.4))
_LINKS = tuple(_Link(slowness, most_share) for slowness, most_share in _VIEWS)


@dataclass(frozen=True)
class RecomputeOffload:
    """Options of units, groups and moved checkpoints by dynamic programming over the chain.

    The program is exact in the class of plans that
    `remora.agents.exact.chains.offload_chain` describes, under its own model of memory and copies.
    It is solved for many budgets, with no copies and under several views of the link, and every
    plan is replayed in the simulator at several paces of copies; the fastest that fits the
    problem's budget is then moved to neighbouring budgets and paces. Where none fits, the schedule
    of least memory that the heuristics know is the answer.

    Attributes:
        slots: memory slots that sizes are rounded up to; fewer are used where the time limit
            would not allow as many.
    """

    slots: int = 500
    one_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the number of slots."""
        check_slots(self.slots)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "recompute_offload"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Solve and replay; see :class:`remora.agents.scheduler.Scheduler`."""
        check_one_device(self.name, problem.world_size)
        evaluator = Evaluator(problem, time_limit_s)
        with suppress(SearchEnded):
            space = Space(problem)
            recompute_offload_search(space, evaluator, self.slots, time_limit_s)
            if evaluator.best is None:
                find_fitting(space, evaluator)
        return evaluator.answer(self.name)


@dataclass(frozen=True)
class _Point:
    """One candidate: a view of the link, a budget of the program in slots, a pace."""

    link: int
    count: int
    window: int
    distance: int


def recompute_offload_search(
    space: Space, evaluator: Evaluator, slots: int, time_limit_s: float
) -> None:
    """Score the plans of the program for many budgets and paces, then around the best of them.

    Args:
        space: makes the schedules.
        evaluator: scores them.
        slots: most memory slots of the program.
        time_limit_s: the slots are fewer where these seconds do not allow as many.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if evaluator.score(space.keep_all).feasible:
        return
    # Something to answer with, should the time be over before the first table is filled.
    evaluator.score(space.floor)
    plans = _Plans(space, slots, time_limit_s)
    for link in range(len(_LINKS) if space.can_offload else 1):
        best = _fastest(plans, evaluator, plans.coarse(link))
        while best is not None:
            better = _fastest(plans, evaluator, [best, *plans.around(best)])
            if better == best:
                break
            best = better


def _fastest(plans: _Plans, evaluator: Evaluator, points: Sequence[_Point]) -> _Point | None:
    """The candidate of least time that fits, the first of equals; None if none fits."""
    planned = [(point, plans.schedule(point)) for point in points]
    known = [(point, schedule) for point, schedule in planned if schedule is not None]
    scores = evaluator.score_all([schedule for _, schedule in known])
    best: int | None = None
    for index, score in enumerate(scores):
        if score.feasible and (best is None or score.faster_than(scores[best])):
            best = index
    return None if best is None else known[best][0]


class _Plans:
    """The plans of one problem by view of the link and budget; solved when asked for.

    Args:
        space: makes the schedules.
        slots: most memory slots of the program, which are also its budgets.
        time_limit_s: as for `recompute_offload_search`.
    """

    def __init__(self, space: Space, slots: int, time_limit_s: float) -> None:
        self._space = space
        self._chain = offload_chain(_one_micro_batch(space.problem), space.choices)
        self._span = float(self._chain.chain.boundary_size[0] + keep_all_need(self._chain.chain))
        shares = [self._most_share(link) for link in _LINKS]
        self._slots = _affordable(space.num_units, shares, slots, time_limit_s)
        self._tables: dict[int, OffloadTable] = {}
        self._blocks: dict[tuple[int, int], Blocks] = {}

    def coarse(self, link: int) -> list[_Point]:
        """Budgets and paces spread over all that make sense."""
        budgets = range(1, self._slots + 1, max(1, self._slots // _BUDGETS))
        if not _LINKS[link].most_share:
            return [_Point(link, count, 1, 1) for count in budgets]
        paces = [pace for pace in _PACES if pace < 2 * self._space.num_units]
        return [_Point(link, c, w, d) for c in budgets for w in paces for d in paces if d <= w]

    def around(self, point: _Point) -> Iterator[_Point]:
        """Candidates at close budgets, and at all paces from half to double."""
        for count in (point.count + step for step in _STEPS):
            if 1 <= count <= self._slots:
                yield replace(point, count=count)
        if _LINKS[point.link].most_share:
            for window in _half_to_double(point.window):
                for distance in _half_to_double(point.distance):
                    yield replace(point, window=window, distance=distance)

    def schedule(self, point: _Point) -> Schedule | None:
        """The schedule of a candidate; None where the program has no plan for its budget."""
        key = point.link, point.count
        if key not in self._blocks:
            table = self._table(point.link)
            budget = table.rotor.budget * point.count / self._slots
            self._blocks[key] = table.solve(budget).blocks
        blocks = self._blocks[key]
        if not blocks:
            return None
        return schedule_of(self._space, blocks, point.window, point.distance)

    def _table(self, number: int) -> OffloadTable:
        if number not in self._tables:
            link = _LINKS[number]
            chain = self._chain if link.most_share else _without_moves(self._chain)
            slower = replace(
                chain,
                out_time=chain.out_time * link.slowness,
                in_time=chain.in_time * link.slowness,
            )
            most = max(1, round(self._slots * self._most_share(link)))
            self._tables[number] = build_offload_table(
                slower, self._span, self._slots, _PARTS_PER_SLOT, most
            )
        return self._tables[number]

    def _most_share(self, link: _Link) -> float:
        """Most memory on its way at once over that of keep-all: two of the largest sets suffice."""
        sizes = [option.moved_size for menu in self._chain.options for option in menu]
        largest = max([*sizes, *self._chain.moved_input])
        return min(link.most_share, 2 * largest / self._span)


def _half_to_double(pace: int) -> range:
    return range(max(1, pace // 2), 2 * pace + 1)


def _affordable(units: int, shares: Sequence[float], slots: int, time_limit_s: float) -> int:
    """As many slots as the time limit allows, at most ``slots``.

    It does not look at the clock, so that equal calls have equal answers.

    Args:
        units: number of units.
        shares: most memory on its way at once in each table, over all of it.
        slots: the most that are wanted.
        time_limit_s: the time limit.
    """
    most_entries = _TABLE_SHARE * time_limit_s * _ENTRIES_PER_S
    # Every table has a row of slots for each pair of units, part on its way, and keep or move.
    per_slots_squared = units**2 * _PARTS_PER_SLOT * max(sum(shares), 1 / slots)
    return max(1, min(slots, int((most_entries / per_slots_squared) ** 0.5)))


def _one_micro_batch(problem: Problem) -> Problem:
    """The problem of one of its micro-batches, if their number is fixed."""
    count = problem.micro_batches or 1
    return replace(
        problem, graphs={1: problem.graphs[count]}, costs={1: problem.costs[count]}, micro_batches=1
    )


def _without_moves(chain: OffloadChain) -> OffloadChain:
    # Options that move something stay in their place, at a price that nobody pays.
    never_s = 1e3 * sum((*chain.chain.forward_time, *chain.chain.backward_time)) + 1.0
    options = [
        [
            option if not option.moved_size else replace(option, extra_time=never_s, moved_size=0)
            for option in menu
        ]
        for menu in chain.options
    ]
    return replace(chain, options=options, moved_input=[0.0] * chain.chain.num_stages)
