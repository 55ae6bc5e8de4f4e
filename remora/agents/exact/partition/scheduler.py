"""Scheduler ``partition``: cuts and memory options by the two-level dynamic program, replayed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.exact.partition.ranges import RangeTables, range_tables
from remora.agents.exact.partition.search import ShapeSearch
from remora.agents.exact.partition.shape import ShapeProgram
from remora.agents.exact.partition.stage_menu import StageMenu, stage_menu
from remora.agents.exact.slots import check_slots
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.shapes import Shape
from remora.agents.heuristics.space import Space
from remora.errors import InvalidInputError
from remora.schedule.orders import model_copies
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, Schedule

__all__ = ["PartitionPlanner", "partition_search"]

_HOPELESS = 1.1
"""A shape whose least estimate is so many times the best step found is left out."""


@dataclass(frozen=True)
class PartitionPlanner:
    """Pipeline cuts and options of every unit by dynamic programming, over all shapes allowed.

    Every kind of pipeline, number of ranks and of micro-batches is planned by itself, the most
    promising first, until the time is over; the simulator decides between them. Where options by
    themselves fit nowhere, units are recomputed together as scheduler ``floor`` does it.

    Attributes:
        kind: the only kind of pipeline to plan, or None for all.
        slots: memory slots of the program that finds the cuts.
    """

    kind: str | None = None
    slots: int = 200

    def __post_init__(self) -> None:
        """Check kind and number of slots."""
        kinds = [kind.value for kind in PipelineKind]
        if self.kind is not None and self.kind not in kinds:
            raise InvalidInputError(
                f"kind is {self.kind!r}; allowed: null for all, or one of {', '.join(kinds)}"
            )
        check_slots(self.slots)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "partition"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Solve and replay; see :class:`remora.agents.scheduler.Scheduler`.

        Raises:
            InvalidInputError: the problem allows no pipeline of the kind that is set.
        """
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem)
        shapes = [s for s in space.shapes if self.kind is None or s.kind == self.kind]
        if not shapes:
            allowed = ", ".join(sorted({shape.kind.value for shape in space.shapes}))
            raise InvalidInputError(
                f"kind is {self.kind!r}, which this problem does not allow; allowed: {allowed}"
            )
        with suppress(SearchEnded):
            partition_search(space, evaluator, shapes, self.slots)
        if evaluator.best is None and evaluator.remaining_s > 0:
            evaluator = Evaluator(problem, evaluator.remaining_s)
            with suppress(SearchEnded):
                _fit_leanest(space, evaluator, shapes, self.slots)
        return evaluator.answer(self.name)


def partition_search(
    space: Space, evaluator: Evaluator, shapes: Sequence[Shape], slots: int
) -> None:
    """Score the plans of the program for every shape, the most promising shapes first.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    programs = sorted(_programs(space, shapes, slots), key=lambda program: program.least_s)
    for program in programs:
        best = evaluator.best
        if best is not None and program.least_s > _HOPELESS * evaluator.score(best).step_time_s:
            continue
        ShapeSearch(space, program, evaluator).run()


def _fit_leanest(space: Space, evaluator: Evaluator, shapes: Sequence[Shape], slots: int) -> None:
    """Go down in memory by a path that does not depend on the budget.

    So whatever peak it ends at, that peak given as the budget makes it succeed.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    searches = (ShapeSearch(space, p, evaluator) for p in _programs(space, shapes, slots))
    plans = [plan for search in searches for plan in search.leanest()]
    scores = evaluator.score_all(plans)
    if evaluator.best is None:
        leanest = min(range(len(plans)), key=lambda i: scores[i].peak_bytes)
        find_fitting(Space(space.problem, plans[leanest].pipeline, shapes=shapes), evaluator)


def _programs(space: Space, shapes: Sequence[Shape], slots: int) -> Iterator[ShapeProgram]:
    """Programs of every shape: with all options, without the host, with even stages or not."""
    tables: dict[int, RangeTables] = {}
    menus: dict[int, list[StageMenu]] = {}
    for shape in shapes:
        count = shape.micro_batches
        if count not in tables:
            tables[count] = range_tables(space.problem, count)
            menus[count] = _menus(space, count)
        shared = shape.chunks * model_copies(shape.kind) > 1
        for even in (True, False) if shared else (True,):
            for menu in menus[count]:
                yield ShapeProgram(space.problem, shape, tables[count], menu, slots, even)


def _menus(space: Space, micro_batches: int) -> list[StageMenu]:
    menus = [stage_menu(space.problem, micro_batches, space.menus)]
    if space.can_offload:
        without = [[o for o in menu if not space.offloads(o)] for menu in space.menus]
        menus.append(stage_menu(space.problem, micro_batches, without))
    return menus
