"""The unit graph of a problem of inference, in the columns that graphs of training have.

Weights take the columns of what a unit saves, caches those of what is its own, and their copies
those of backward and rerun; columns that say nothing in a pass are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.envs.graphs import UnitGraph, log_ratio, related, unit_edges

if TYPE_CHECKING:
    from remora.envs.passes.tables import PassTables

__all__ = ["pass_graph"]


def pass_graph(problem: PassTables) -> UnitGraph:
    """Describe units and edges: times as shares of the pass that keeps everything."""
    span = problem.span_bytes
    rows = [_node(problem, unit, span) for unit in range(problem.num_units)]
    return related(rows, unit_edges(problem.problem.chain), span)


def _node(problem: PassTables, unit: int, span: int) -> tuple[float, ...]:
    chain, count = problem.problem.chain, problem.counts[0]
    scale = count.micro_batches / problem.keep_all_s
    weights, cache = (float(size) for size in count.held_bytes[unit].tolist())
    load_s, cache_s = (
        count.weights_s[unit],
        max(count.cache_load_s[unit], count.cache_store_s[unit]),
    )
    movable = len(problem.menus[unit]) > 1
    # A rate of 0 makes seconds infinite; such units cannot move.
    load, moved = (scale * float(s) if movable else 0.0 for s in (load_s, cache_s))
    return (
        10 * scale * float(count.forward_s[unit]),
        10 * load,
        10 * moved,
        weights / span,
        cache / span,
        chain.input_bytes(unit) / span,
        0.0,
        0.0,
        10 * (load + moved),
        log_ratio(moved, cache / span),
        log_ratio(load, weights / span),
        0.0,
        0.0,
        0.0,
        float(not movable),
        len(problem.menus[unit]) / 8,
        unit / problem.num_units,
    )
