"""The unit graph of a problem as numbers relative to it; N units, E edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from remora.envs.telling import FEATURE_LIMIT
from remora.schedule.chain import Chain
from remora.schedule.layout import host_link_rates

if TYPE_CHECKING:
    from remora.envs.problem_tables import ProblemTables

__all__ = [
    "EDGE_COLUMNS",
    "NODE_COLUMNS",
    "UnitGraph",
    "log_ratio",
    "related",
    "unit_edges",
    "unit_graph",
]

FloatArray = NDArray[np.float32]

NODE_COLUMNS = (
    "forward_time",
    "backward_time",
    "rerun_time",
    "saved",
    "own_saved",
    "inputs",
    "private_inputs",
    "gradients",
    "copy_time",
    "log_rerun_per_byte",
    "log_copy_per_byte",
    "keep_peak",
    "alone_peak",
    "rest_peak",
    "fixed",
    "menu",
    "position",
)
EDGE_COLUMNS = ("bytes", "distance", "forwards")


@dataclass(frozen=True)
class UnitGraph:
    """The same at every step of an episode.

    Attributes:
        nodes: a row per unit.  # [N, len(NODE_COLUMNS)]
        edge_index: from unit, to unit; every edge stands in both directions.  # [2, E]
        edges: a row per edge.  # [E, len(EDGE_COLUMNS)]
    """

    nodes: FloatArray
    edge_index: NDArray[np.int64]
    edges: FloatArray


def unit_graph(problem: ProblemTables) -> UnitGraph:
    """Describe units and edges: times as shares of the ideal step, bytes of what can be freed."""
    span = problem.span_bytes
    rows = [_node(problem, unit, span) for unit in range(problem.num_units)]
    return related(rows, unit_edges(problem.problem.chain), span)


def related(
    rows: Sequence[tuple[float, ...]], size: Mapping[tuple[int, int], int], span: int
) -> UnitGraph:
    """Put a graph together.

    Args:
        rows: of units, columns ``NODE_COLUMNS``.
        size: bytes of every edge, see :func:`unit_edges`.
        span: bytes that they are told as shares of.
    """
    ordered = sorted(size)
    index = np.array(ordered + [(b, a) for a, b in ordered], dtype=np.int64).reshape(-1, 2).T
    ahead = [(size[a, b] / span, math.log(b - a)) for a, b in ordered]
    edges = [(*row, 1.0) for row in ahead] + [(*row, 0.0) for row in ahead]
    return UnitGraph(_clipped(rows, len(NODE_COLUMNS)), index, _clipped(edges, len(EDGE_COLUMNS)))


def _node(problem: ProblemTables, index: int, span: int) -> tuple[float, ...]:
    chain, count = problem.problem.chain, problem.counts[0]
    unit = chain.units[index]
    ideal_s = problem.keep_all_s
    private = sum(chain.num_bytes(s) for s in chain.private_inputs(index, index + 1))
    copy_s = 0.0
    if problem.offloads:
        rates = host_link_rates(problem.problem, chain)
        copy_s = rates.store_s([saved.num_bytes for saved in unit.saved])
    alone = 0.0 if unit.fixed else float(count.segments.plain[index, index + 1]) / span
    return (
        unit.forward_s / ideal_s * 10,
        unit.backward_s / ideal_s * 10,
        unit.rerun_s / ideal_s * 10,
        unit.saved_bytes / span,
        unit.own_saved_bytes / span,
        chain.input_bytes(index) / span,
        private / span,
        chain.gradient_bytes(index) / span,
        copy_s / ideal_s * 10,
        log_ratio(unit.rerun_s / ideal_s, unit.own_saved_bytes / span),
        log_ratio(copy_s / ideal_s, unit.saved_bytes / span),
        count.options[index][0].peak / span,
        alone,
        float(count.completions.rest[index]) / span,
        float(unit.fixed),
        len(problem.menus[index]) / 8,
        index / problem.num_units,
    )


def log_ratio(numerator: float, denominator: float) -> float:
    """Decimal logarithm of a ratio of two shares, of which either may be 0."""
    return math.log10((numerator + 1e-6) / (denominator + 1e-6))


def _clipped(rows: Sequence[tuple[float, ...]], columns: int) -> FloatArray:
    values = np.array(rows, dtype=np.float32).reshape(-1, columns)
    return np.clip(values, -FEATURE_LIMIT, FEATURE_LIMIT)


def unit_edges(chain: Chain) -> dict[tuple[int, int], int]:
    """Bytes that one unit reads of another's results; neighbours are always listed."""
    size = {(i, i + 1): 0 for i in range(len(chain.units) - 1)}
    for unit in chain.units:
        for storage in unit.inputs:
            edge = (chain.creator_unit[storage], unit.index)
            size[edge] = size.get(edge, 0) + chain.num_bytes(storage)
    return size
