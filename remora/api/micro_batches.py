"""Into how many micro-batches a step may be cut, and the traces at those sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph

__all__ = ["check_ranks", "graphs_at", "micro_batch_counts", "outline"]

_MOST_PER_RANK = 4
_MOST_COUNTS = 6
"""Each count is a trace and a cost table of its own."""


def micro_batch_counts(batch: int, world_size: int, fixed: int | None = None) -> tuple[int, ...]:
    """Numbers of micro-batches that a problem is traced at, ascending.

    All divisors of the batch up to four per rank, as far as a pipeline over all ranks can use
    them; where there are many, the ends and an even choice between them. One is always there.

    Args:
        batch: samples of one step of one replica.
        world_size: number of ranks; one rank has no use for micro-batches of its own accord.
        fixed: the only number that schedules may have, or None.

    Raises:
        InvalidInputError: the fixed number does not divide the batch.
    """
    divisors = [count for count in range(1, batch + 1) if batch % count == 0]
    if fixed is not None:
        if fixed not in divisors:
            raise InvalidInputError(
                f"micro_batches is {fixed}; allowed: divisors of the batch of {batch}, "
                f"{', '.join(map(str, divisors))}"
            )
        return tuple(sorted({1, fixed}))
    if world_size == 1:
        return (1,)
    useful = [count for count in divisors if 1 < count <= _MOST_PER_RANK * world_size]
    filling = [count for count in useful if count >= world_size]
    short = [count for count in useful if count < world_size]
    chosen = _spread(filling, _MOST_COUNTS - 1)
    rest = _MOST_COUNTS - 1 - len(chosen)
    return tuple(sorted({1, *chosen, *short[len(short) - min(rest, len(short)) :]}))


def graphs_at(
    trace_at: Callable[[int], ModelGraph],
    batch: int,
    world_size: int = 1,
    fixed: int | None = None,
) -> dict[int, ModelGraph]:
    """Trace a step at the numbers of micro-batches that a problem needs.

    A count at which the model's code takes another path, so that it has other units or saves
    other tensors, is left out: no schedule of the whole batch can be read for it.

    Args:
        trace_at: traces a step of so many samples.
        batch: samples of the whole step.
        world_size: number of ranks.
        fixed: the only number of micro-batches that schedules may have, or None.

    Returns:
        Graphs by number of micro-batches, among them 1.

    Raises:
        InvalidInputError: the fixed number does not divide the batch, or is left out.
    """
    counts = micro_batch_counts(batch, world_size, fixed)
    whole = trace_at(batch)
    graphs = {1: whole}
    for count in counts[1:]:
        graph = trace_at(batch // count)
        if outline(graph) == outline(whole):
            graphs[count] = graph
    if fixed is not None and fixed not in graphs:
        raise InvalidInputError(
            f"micro_batches is {fixed}; the model saves other tensors for {batch // fixed} samples "
            f"than for {batch}, so allowed: numbers of micro-batches with larger ones"
        )
    return graphs


def check_ranks(
    world_size: int, micro_batches: int | None, tensor_degree: int | None = None
) -> None:
    """Refuse numbers of ranks, micro-batches and ranks that share layers that no model allows.

    Raises:
        InvalidInputError: one of them is below 1.
    """
    numbers = {
        "world_size": world_size,
        "micro_batches": micro_batches,
        "tensor_degree": tensor_degree,
    }
    for name, value in numbers.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            none = "" if name == "world_size" else ", or none to leave it open"
            raise InvalidInputError(f"{name} is {value!r}; allowed: 1 or more{none}")


def _spread(values: Sequence[int], most: int) -> list[int]:
    """At most so many of ascending values, evenly by position, both ends among them."""
    if len(values) <= most:
        return list(values)
    last = len(values) - 1
    return [values[round(step * last / (most - 1))] for step in range(most)]


def outline(graph: ModelGraph) -> list[tuple[object, ...]]:
    """What a schedule names: units and their saved tensors."""
    return [
        (unit.name, bool(unit.fixed_reason), *(saved.name for saved in unit.saved))
        for unit in graph.units
    ]
