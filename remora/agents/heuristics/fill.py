"""Make changes in a fixed order, on every rank as many as it takes to fit there."""

from __future__ import annotations

from collections.abc import Sequence

from remora.agents.evaluation import Evaluator
from remora.agents.heuristics.changes import Change
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, add_span
from remora.schedule.orders import model_copies, pipeline_order
from remora.schedule.schedule import PipelinePlan, Schedule

__all__ = ["fill", "owner_of_units"]


def fill(
    space: Space, evaluator: Evaluator, start: Schedule, changes: Sequence[Change]
) -> Schedule | None:
    """Change ``start`` until it fits, cheapest changes first.

    The ranks of a pipeline hardly touch each other's memory, so the numbers of changes that they
    need are found by bisection on all ranks at once: some ten simulations for any size.

    Args:
        space: where the changes come from.
        evaluator: scores and limits.
        start: keeps everything; its pipeline, pace and state stay.
        changes: in the order in which they are made.

    Returns:
        The schedule where the ranks just fit; None where all changes together do not suffice.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    owners = owner_of_units(start.pipeline, space.num_units)
    mine = [[c for c in changes if owners[c.start] == owner] for owner in range(max(owners) + 1)]
    budget = space.problem.budget_bytes

    def peaks_of(counts: Sequence[int]) -> list[int]:
        score = evaluator.score(_made(space, start, mine, counts))
        return _peak_of_owners(start.pipeline, score.peaks_bytes)

    low, high = [-1] * len(mine), [len(own) for own in mine]
    if max(peaks_of(high)) > budget:
        return None
    while any(h - w > 1 for w, h in zip(low, high, strict=True)):
        middle = [(w + h) // 2 if h - w > 1 else h for w, h in zip(low, high, strict=True)]
        for owner, peak in enumerate(peaks_of(middle)):
            if peak <= budget:
                high[owner] = middle[owner]
            elif middle[owner] < high[owner]:
                low[owner] = middle[owner]
    return _made(space, start, mine, high)


def owner_of_units(pipeline: PipelinePlan, num_units: int) -> list[int]:
    """Which ranks have a unit; ranks with the same units, as chimera has, count as one.

    Returns:
        A number from 0 for every unit.  # [num_units]
    """
    order = pipeline_order(
        pipeline.kind, pipeline.num_ranks, pipeline.micro_batches, pipeline.chunks
    )
    owners = []
    for stage, (begin, end) in enumerate(pipeline.spans(num_units)):
        rank = int(order.stage_rank[stage])
        owners += [_owner_of_rank(pipeline, rank)] * (end - begin)
    return owners


def _owner_of_rank(pipeline: PipelinePlan, rank: int) -> int:
    if model_copies(pipeline.kind) == 1:
        return rank
    return min(rank, pipeline.num_ranks - 1 - rank)


def _peak_of_owners(pipeline: PipelinePlan, peaks_bytes: Sequence[int]) -> list[int]:
    found: dict[int, int] = {}
    for rank, peak in enumerate(peaks_bytes):
        owner = _owner_of_rank(pipeline, rank)
        found[owner] = max(found.get(owner, 0), peak)
    return [found[owner] for owner in sorted(found)]


def _made(
    space: Space, start: Schedule, changes: Sequence[Sequence[Change]], counts: Sequence[int]
) -> Schedule:
    """``start`` with the first so many changes of every rank."""
    options = list(start.memory.options)
    spans: tuple[Span, ...] = ()
    for own, count in zip(changes, counts, strict=True):
        for change in own[:count]:
            if change.choice is not None:
                options[change.start] = change.choice.option
            elif not any(span.start < change.end and change.start < span.end for span in spans):
                spans = add_span(spans, change.span)
    return space.with_parts(start, options=options, spans=spans)
