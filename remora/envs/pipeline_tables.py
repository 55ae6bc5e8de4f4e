"""The pipelines that a problem of several ranks allows, and what is known of each beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import KINDS, NUM_ACTIONS, STATES
from remora.envs.columns import FOLDED, IN_ROUNDS, ONE_STAGE_EACH
from remora.envs.intervals import add_present, largest_inside, new_table
from remora.envs.likely import likely_s
from remora.envs.places import allows_state
from remora.envs.stage_orders import StageOrder, stage_order
from remora.errors import InvalidInputError
from remora.graph.model_graph import PARAMETER
from remora.schedule.cuts import balanced_cuts
from remora.schedule.menu import keep_all_schedule, recompute_all_schedule
from remora.schedule.orders import check_pipeline, model_copies
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule
from remora.simulator.bounds import fastest_pipeline
from remora.simulator.compiled import simulator_of
from remora.simulator.compiled.problem_arrays import static_arrays

__all__ = ["PipelineShape", "pipeline_shapes", "rank_choices", "static_spans", "tied_bytes"]

Ints = NDArray[np.int64]

_FAMILIES = {
    PipelineKind.NONE: ONE_STAGE_EACH,
    PipelineKind.GPIPE: ONE_STAGE_EACH,
    PipelineKind.ONE_F_ONE_B: ONE_STAGE_EACH,
    PipelineKind.INTERLEAVED: IN_ROUNDS,
}


_LIKELIEST = 8
"""Shapes that are looked at for one budget: the fastest is nearly always among so many."""

_SMALLEST = 2
"""Shapes that come on top, those that take least memory."""


@dataclass(frozen=True)
class _Draft:
    """A pipeline before its order is counted.

    Attributes:
        kind, num_ranks, count, cuts, floor_s, ends: see :class:`PipelineShape`.
    """

    kind: int
    num_ranks: int
    count: int
    cuts: tuple[int, ...]
    floor_s: float
    ends: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class PipelineShape:
    """A kind of pipeline on some ranks with some micro-batches.

    Attributes:
        kind: place in ``KINDS``.
        num_ranks: of one replica.
        count: place of the number of micro-batches among those of the problem.
        order: what is in memory when.
        family: what comes before the first task of a rank, see :mod:`.columns`.
        states: places of the state that are allowed.
        cuts: of stages with equal seconds.  # [S - 1]
        floor_s: seconds that no plan goes below.
        ends: seconds and bytes of keeping everything with those cuts, and of recomputing every
            unit.
    """

    kind: int
    num_ranks: int
    count: int
    order: StageOrder
    family: int
    states: tuple[int, ...]
    cuts: tuple[int, ...]
    floor_s: float
    ends: tuple[float, float, float, float]

    @property
    def num_stages(self) -> int:
        """Stages of one copy of the model."""
        return len(self.order.rank)

    @property
    def alone(self) -> bool:
        """Whether no two stages share a rank."""
        return len(np.unique(self.order.rank)) == self.num_stages


def rank_choices(problem: Problem) -> tuple[int, ...]:
    """Ranks that one pipeline may have, most first."""
    return problem.pipeline_sizes[:NUM_ACTIONS]


def pipeline_shapes(
    problem: Problem, counts: Sequence[int], budget_bytes: int | None = None
) -> tuple[PipelineShape, ...]:
    """All shapes that a problem allows, by ranks, kind and micro-batches.

    Args:
        problem: of several ranks.
        counts: numbers of micro-batches to choose from.
        budget_bytes: if given, only those that are likely to be fast with so much memory, and
            those that take least of it.
    """
    plans = keep_all_schedule(problem.graph), recompute_all_schedule(problem)
    drafts = (_draft(problem, counts, plans, key) for key in sorted(_keys(problem, counts)))
    chosen = list(drafts) if budget_bytes is None else _likeliest(drafts, budget_bytes)
    return tuple(
        _shape(problem, counts, plans[0], draft)
        for draft in sorted(chosen, key=lambda draft: (-draft.num_ranks, draft.kind, draft.count))
    )


def _likeliest(drafts: Iterable[_Draft], budget_bytes: int) -> list[_Draft]:
    """Of drafts in the order of their floors, until no other one can be among the fastest."""
    found: list[tuple[float, _Draft]] = []
    for draft in drafts:
        if len(found) > _LIKELIEST and draft.floor_s > found[_LIKELIEST - 1][0]:
            break
        found.append((likely_s(*draft.ends, float(budget_bytes)), draft))
        found.sort(key=lambda pair: pair[0])
    ranked = [draft for _, draft in found]
    smallest = sorted(ranked[_LIKELIEST:], key=lambda draft: draft.ends[3])[:_SMALLEST]
    return [*ranked[:_LIKELIEST], *smallest]


_Key = tuple[float, int, int, int]
"""Floor, ranks, kind, place of the number of micro-batches."""


def _keys(problem: Problem, counts: Sequence[int]) -> Iterator[_Key]:
    units = len(problem.graph.units)
    statistics = any(unit.mutated_buffers for unit in problem.graph.units)
    for num_ranks in rank_choices(problem):
        for kind, (name, chunks) in enumerate(KINDS):
            if (
                (name is PipelineKind.NONE) != (num_ranks == 1)
                or num_ranks * chunks > units
                or (statistics and model_copies(name) > 1)
            ):
                continue
            for count, micro_batches in enumerate(counts):
                try:
                    check_pipeline(name, num_ranks, micro_batches, chunks)
                except InvalidInputError:
                    continue
                floor_s = _floor_s(problem, name, num_ranks, micro_batches)
                yield floor_s, num_ranks, kind, count


def _draft(
    problem: Problem, counts: Sequence[int], plans: tuple[Schedule, Schedule], key: _Key
) -> _Draft:
    """Simulate keeping everything and recomputing everything in a pipeline with balanced cuts."""
    floor_s, num_ranks, kind, count = key
    (name, chunks), micro_batches = KINDS[kind], counts[count]
    units = problem.chains[micro_batches].units
    seconds = [unit.forward_s + unit.backward_s for unit in units]
    cuts = balanced_cuts(seconds, num_ranks * chunks)
    pipeline = PipelinePlan(name, cuts, chunks, micro_batches)
    kept, again = simulator_of(problem).batch([replace(p, pipeline=pipeline) for p in plans])
    ends = (kept.step_time_s, kept.max_peak_bytes, again.step_time_s, again.max_peak_bytes)
    return _Draft(kind, num_ranks, count, cuts, floor_s, ends)


def _shape(problem: Problem, counts: Sequence[int], kept: Schedule, draft: _Draft) -> PipelineShape:
    (name, chunks), micro_batches = KINDS[draft.kind], counts[draft.count]
    plan = replace(kept, pipeline=PipelinePlan(name, draft.cuts, chunks, micro_batches))
    return PipelineShape(
        kind=draft.kind,
        num_ranks=draft.num_ranks,
        count=draft.count,
        order=stage_order(draft.kind, draft.num_ranks, micro_batches),
        family=_FAMILIES.get(name, FOLDED),
        states=tuple(
            code
            for code, state in enumerate(STATES)
            if allows_state(problem, replace(plan, state=state))
        ),
        cuts=draft.cuts,
        floor_s=draft.floor_s,
        ends=draft.ends,
    )


def _floor_s(problem: Problem, kind: PipelineKind, num_ranks: int, micro_batches: int) -> float:
    chain = problem.chains[micro_batches]
    work_s = micro_batches * sum(unit.forward_s + unit.backward_s for unit in chain.units)
    time = None
    if num_ranks > 1:
        time = fastest_pipeline(chain, num_ranks, micro_batches, kind)
    return work_s / num_ranks if time is None else time.path_s


def static_spans(problem: Problem) -> Ints:
    """Bytes of what spans of units keep for the whole step.

    Returns:
        Columns WEIGHTS to UNIT_WEIGHTS of :mod:`.columns`.  # [n + 1][n + 1][columns]
    """
    chain = problem.chain
    arrays = static_arrays(problem, chain)
    roles = [entry.role for entry in chain.statics.all]
    n = len(chain.units)
    tables = [new_table(n) for _ in range(9)]
    weights = np.zeros(n, dtype=np.int64)
    gradients, largest = weights.copy(), weights.copy()
    for static, values in enumerate(arrays.ints.tolist()):
        role, size, gradient, optimizer, eight_bit, _, copied = values
        units = arrays.units[arrays.unit_start[static] : arrays.unit_start[static + 1]].tolist()
        if role < 2:
            add_present(tables[role], units, size)
        if roles[static] == PARAMETER:
            for column, value in enumerate((gradient, optimizer, eight_bit, copied)):
                add_present(tables[2 + column], units, value)
            for unit in units:
                weights[unit] += size
                gradients[unit] += gradient
                largest[unit] = max(largest[unit], size)
    tables[6] = largest_inside(largest.tolist())
    tables[7], tables[8] = (largest_inside(v.tolist()) for v in (gradients, weights))
    return np.stack(tables, axis=2)


def tied_bytes(problem: Problem) -> tuple[int, int, int, int]:
    """Bytes of parameters that the first and the last unit share, such as tied embeddings.

    Returns:
        Of weights, gradients, optimizer state, and that in 8 bits.
    """
    chain = problem.chain
    arrays, ends = static_arrays(problem, chain), {0, len(chain.units) - 1}
    total = [0, 0, 0, 0]
    for static, values in enumerate(arrays.ints.tolist()):
        units = arrays.units[arrays.unit_start[static] : arrays.unit_start[static + 1]].tolist()
        if chain.statics.all[static].role == PARAMETER and ends <= set(units):
            _, size, gradient, optimizer, eight_bit, _, _ = values
            for place, value in enumerate((size, gradient, optimizer, eight_bit)):
                total[place] += value
    return total[0], total[1], total[2], total[3]
