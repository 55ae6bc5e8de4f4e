"""Numbers that describe a case, a budget and the state of an episode, all relative to the problem.

Legend: N units, E edges between units, A decisions of a unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import UnitAction
from remora.envs.episode import Episode
from remora.envs.tables import CaseTables, Rungs
from remora.schedule.chain import Chain

__all__ = [
    "CHOICE_FEATURES",
    "EDGE_FEATURES",
    "FEATURE_LIMIT",
    "NODE_FEATURES",
    "STATE_FEATURES",
    "GraphFeatures",
    "choice_features",
    "decision_features",
    "graph_features",
    "state_features",
    "unit_edges",
]

FloatArray = NDArray[np.float32]

FEATURE_LIMIT = 10.0
"""Every feature is clipped to plus or minus this."""

NODE_FEATURES = (
    "forward_time",
    "backward_time",
    "rerun_time",
    "saved",
    "own_saved",
    "inputs",
    "private_inputs",
    "gradients",
    "offload_time",
    "log_rerun_per_byte",
    "log_offload_per_byte",
    "recomputable",
    "offloadable",
    "position",
    "ladder_order",
    "ladder_offloads",
    "ladder_recomputes",
    "least_keeps",
)
EDGE_FEATURES = ("bytes", "distance", "forwards")
STATE_FEATURES = (
    "to_free",
    "budget_share",
    "headroom",
    "cost",
    "rung",
    "progress",
    "log_units",
    "open_group_units",
    "open_group_bytes",
    "remaining_saved",
    "remaining_time",
    "host_link",
)
CHOICE_FEATURES = ("allowed", "cost_change", "headroom", "headroom_change", "rung_change")


@dataclass(frozen=True)
class GraphFeatures:
    """The unit graph of an episode; the same at every step.

    Attributes:
        nodes: a row per unit.  # [N, len(NODE_FEATURES)]
        edge_index: from unit, to unit; every edge stands in both directions.  # [2, E]
        edges: a row per edge.  # [E, len(EDGE_FEATURES)]
    """

    nodes: FloatArray
    edge_index: NDArray[np.int64]
    edges: FloatArray


def graph_features(episode: Episode) -> GraphFeatures:
    """Describe units and edges: times as shares of the ideal step, bytes of what must be freed."""
    tables = episode.tables
    nodes = np.array(
        [_node_row(episode, index, _span_bytes(episode)) for index in range(tables.num_units)],
        dtype=np.float32,
    )
    return GraphFeatures(_clipped(nodes), *_edges(tables.problem.chain, _span_bytes(episode)))


def state_features(episode: Episode) -> FloatArray:
    """Describe budget, progress and the completed plan.  # [len(STATE_FEATURES)]."""
    tables = episode.tables
    span = _span_bytes(episode)
    units = tables.problem.chain.units
    start = episode.open_group_start
    start = episode.cursor if start is None else start
    remaining = units[episode.cursor :]
    ideal_s = tables.keep_all.step_time_s
    saved = sum(unit.own_saved_bytes for unit in units)
    row = (
        (tables.keep_all.peak_bytes - episode.budget_bytes) / span,
        episode.budget_bytes / tables.keep_all.peak_bytes,
        (episode.budget_bytes - episode.figures.peak_bytes) / span,
        episode.cost,
        episode.completion.rung / len(episode.rungs.rows),
        episode.cursor / tables.num_units,
        math.log(tables.num_units) / 4,
        (episode.cursor - start) / 8,
        sum(unit.own_saved_bytes for unit in units[start : episode.cursor]) / span,
        sum(unit.own_saved_bytes for unit in remaining) / span,
        sum(unit.forward_s + unit.backward_s for unit in remaining) / ideal_s,
        math.log10(max(_copy_s(tables, saved, 1), 1e-9) / ideal_s),
    )
    return _clipped(np.array(row, dtype=np.float32))


def choice_features(episode: Episode) -> FloatArray:
    """Describe where every decision leads.  # [A, len(CHOICE_FEATURES)]."""
    rows = np.zeros((len(UnitAction), len(CHOICE_FEATURES)), dtype=np.float32)
    if episode.done:
        return rows
    span = _span_bytes(episode)
    ideal_s = episode.tables.keep_all.step_time_s
    for action, choice in enumerate(episode.choices):
        if choice is None:
            continue
        figures = choice.figures
        rungs = (choice.rung - episode.completion.rung) / len(episode.rungs.rows)
        headroom = (episode.budget_bytes - figures.peak_bytes) / span
        change = (episode.figures.peak_bytes - figures.peak_bytes) / span
        cost = math.log(figures.step_time_s / ideal_s)
        rows[action] = (1.0, 10 * (cost - episode.cost), headroom, change, 10 * rungs)
    return _clipped(rows)


def decision_features(decisions: Sequence[int], num_units: int) -> FloatArray:
    """One-hot decisions; zeros where a unit is not decided yet.  # [N, A]."""
    rows = np.zeros((num_units, len(UnitAction)), dtype=np.float32)
    rows[np.arange(len(decisions)), list(decisions)] = 1.0
    return rows


def unit_edges(chain: Chain) -> dict[tuple[int, int], int]:
    """Bytes that one unit reads of another's results; neighbours are always listed."""
    size = {(i, i + 1): 0 for i in range(len(chain.units) - 1)}
    for unit in chain.units:
        for storage in unit.inputs:
            edge = (chain.creator_unit[storage], unit.index)
            size[edge] = size.get(edge, 0) + chain.num_bytes(storage)
    return size


def _node_row(episode: Episode, index: int, span: int) -> tuple[float, ...]:
    tables = episode.tables
    chain, structure = tables.problem.chain, tables.structure
    unit = chain.units[index]
    ideal_s = tables.keep_all.step_time_s
    order, change = _ladder_change(episode.rungs, index)
    private = sum(chain.num_bytes(s) for s in chain.private_inputs(index, index + 1))
    copy_s = _copy_s(tables, unit.saved_bytes, len(unit.saved))
    own = unit.own_saved_bytes / span
    return (
        unit.forward_s / ideal_s * 10,
        unit.backward_s / ideal_s * 10,
        unit.rerun_s / ideal_s * 10,
        unit.saved_bytes / span,
        own,
        chain.input_bytes(index) / span,
        private / span,
        chain.gradient_bytes(index) / span,
        copy_s / ideal_s,
        _log_ratio(unit.rerun_s / ideal_s, own),
        _log_ratio(copy_s / ideal_s, unit.saved_bytes / span),
        float(structure.recomputable[index] and bool(unit.saved)),
        float(structure.offloadable[index]),
        index / tables.num_units,
        order,
        float(change is UnitAction.OFFLOAD),
        float(change.recomputes),
        float(tables.least_memory[index] == UnitAction.KEEP),
    )


def _ladder_change(rungs: Rungs, index: int) -> tuple[float, UnitAction]:
    """Where on the ladder a unit is first changed, as a share of it, and to what."""
    for rung, decisions in enumerate(rungs.rows):
        if decisions[index] != UnitAction.KEEP:
            return rung / len(rungs.rows), UnitAction(decisions[index])
    return 1.0, UnitAction.KEEP


def _edges(chain: Chain, span: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Edges along the chain and wherever a unit reads another one's output, both directions."""
    size = unit_edges(chain)
    ordered = sorted(size)
    index = np.array(ordered + [(b, a) for a, b in ordered], dtype=np.int64).reshape(-1, 2).T
    row = [(size[a, b] / span, math.log(b - a)) for a, b in ordered]
    rows = [(*r, 1.0) for r in row] + [(*r, 0.0) for r in row]
    return index, _clipped(np.array(rows, dtype=np.float32).reshape(-1, len(EDGE_FEATURES)))


def _copy_s(tables: CaseTables, num_bytes: int, copies: int) -> float:
    cost = tables.problem.cost
    share = tables.problem.hardware.host.ranks_per_link
    return num_bytes * share / cost.d2h_bytes_per_s + copies * cost.copy_latency_s


def _span_bytes(episode: Episode) -> int:
    """What keeping everything takes beyond the least; at least one byte."""
    tables = episode.tables
    return max(tables.keep_all.peak_bytes - tables.least_peak_bytes, 1)


def _log_ratio(numerator: float, denominator: float) -> float:
    return math.log10((numerator + 1e-6) / (denominator + 1e-6))


def _clipped(values: FloatArray) -> FloatArray:
    return np.clip(values, -FEATURE_LIMIT, FEATURE_LIMIT)
