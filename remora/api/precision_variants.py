"""Which units might compute in fewer bits: a few assignments that are worth planning.

What passes between units keeps the dtype of the model, so what one unit costs does not depend on
the precision of another, and the fastest and the leanest assignment are found unit by unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from remora.cost_models.roofline import roofline_op_time_s
from remora.graph.model_graph import ACTIVATION, STATIC_ROLES, ModelGraph, Unit
from remora.graph.precision.assignment import units_by_module
from remora.graph.precision.precision import Precision, is_lossy
from remora.hardware.hardware import Hardware

__all__ = ["assignments", "everywhere"]

_Assignment = tuple[Precision, ...]
"""Precision of every unit.  # [num_units]."""


def assignments(
    base: ModelGraph,
    precisions: Sequence[Precision],
    trace_at: Callable[[_Assignment], ModelGraph],
    hardware: Hardware,
) -> tuple[_Assignment, ...]:
    """Return assignments to plan besides that of the model's own precision.

    They are: each precision wherever it changes anything, the fastest of all by the rates of the
    device, and the one that holds the fewest bytes.

    Args:
        base: the graph at the model's own precision.
        precisions: that units may have.
        trace_at: traces the same step under an assignment.
        hardware: its rates.
    """
    groups = _groups(base)
    graphs = {Precision.MODEL: base}
    for precision in precisions:
        wanted = everywhere(base, precision)
        if is_lossy(wanted):
            graphs[precision] = trace_at(wanted)
    alone = [_changed(base, graph, precision) for precision, graph in graphs.items()]
    seconds = {p: _unit_seconds(graph, hardware) for p, graph in graphs.items()}
    held = {p: _unit_bytes(graph) for p, graph in graphs.items()}
    fastest = _least(groups, [seconds, held])
    leanest = _least(groups, [held, seconds])
    found = dict.fromkeys([*alone, fastest, leanest])
    return tuple(assignment for assignment in found if is_lossy(assignment))


def everywhere(graph: ModelGraph, precision: Precision) -> _Assignment:
    """Return a precision for every unit that may have it.

    In training in eight bits that are neither the first nor the last of the model: gradients of
    logits have one large entry in a row and many tiny ones, which eight bits round to nothing.
    """
    inside = [unit.index for unit in graph.units if unit.steps and not unit.fixed_reason]
    if precision is not Precision.BF16 and not graph.forward_only:
        inside = inside[1:-1]
    return tuple(precision if unit.index in inside else Precision.MODEL for unit in graph.units)


def _changed(base: ModelGraph, graph: ModelGraph, precision: Precision) -> _Assignment:
    """The precision for the units whose operators it changes, and for those tied to them."""
    chosen = [Precision.MODEL] * len(base.units)
    for group in _groups(base):
        if any(base.units[unit].kind != graph.units[unit].kind for unit in group):
            for unit in group:
                chosen[unit] = precision
    return tuple(chosen)


def _groups(graph: ModelGraph) -> list[tuple[int, ...]]:
    """Units that share modules, which have one precision together."""
    root = list(range(len(graph.units)))
    for units in units_by_module(graph).values():
        for unit in units:
            old, new = root[unit], root[units[0]]
            root = [new if one == old else one for one in root]
    return [
        tuple(unit for unit, one in enumerate(root) if one == first) for first in sorted(set(root))
    ]


def _least(
    groups: Sequence[Sequence[int]], prices: Sequence[Mapping[Precision, Sequence[float]]]
) -> _Assignment:
    """The cheapest precision of every group; the model's own, then the first asked for, of equals.

    Args:
        groups: units that go together.
        prices: of every unit by precision, what counts first before what counts next.
    """
    chosen = [Precision.MODEL] * sum(map(len, groups))
    for group in groups:
        best = min(
            prices[0], key=lambda p: [sum(price[p][unit] for unit in group) for price in prices]
        )
        for unit in group:
            chosen[unit] = best
    return tuple(chosen)


def _unit_seconds(graph: ModelGraph, hardware: Hardware) -> list[float]:
    """Of forward and backward.  # [num_units]."""
    return [
        sum(
            roofline_op_time_s(graph, graph.ops[i], hardware)
            for i in (*range(*unit.forward), *range(*unit.backward))
        )
        for unit in graph.units
    ]


def _unit_bytes(graph: ModelGraph) -> list[float]:
    """What every unit saves for its backward; in inference, what it reads of the model."""
    return [
        sum(graph.storages[storage].num_bytes for storage in _held(graph, unit))
        for unit in graph.units
    ]


def _held(graph: ModelGraph, unit: Unit) -> set[int]:
    if not graph.forward_only:
        saved = {graph.storage_of(one) for one in unit.saved}
        return {storage for storage in saved if graph.storages[storage].role == ACTIVATION}
    read = {graph.tensors[t].storage for _, op in graph.forward_ops(unit) for t in op.inputs}
    return {storage for storage in read if graph.storages[storage].role in STATIC_ROLES}
