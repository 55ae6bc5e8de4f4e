"""How long values live when a whole unit runs again from its tape of calls.

The tape holds what calls between modules return, and lets go of it after the last call that reads
it; the model's own code would hold it as long as a variable has its name. What lives and dies
inside a module's call is the same both times.
"""

from __future__ import annotations

from collections.abc import Mapping

from remora.graph.model_graph import ModelGraph, Unit

__all__ = ["rerun_ends"]


def rerun_ends(graph: ModelGraph, unit: Unit) -> Mapping[int, int]:
    """Operator count after which a rerun lets go of a storage, where that is earlier than at first.

    Args:
        graph: the traced step.
        unit: one of its units.

    Returns:
        By storage made in the unit's forward and let go of in it.
    """
    call_end = _call_ends(graph, unit)
    last_read: dict[int, int] = {}
    for index in range(*unit.forward):
        op = graph.ops[index]
        for tensor in (*op.inputs, *op.outputs):
            last_read[graph.tensors[tensor].storage] = index
    ends = {}
    for storage, index in last_read.items():
        record = graph.storages[storage]
        made_here = unit.forward[0] <= record.created
        on_tape = record.dropped > call_end[record.created] if made_here else False
        if on_tape and record.dropped <= unit.forward[1] and call_end[index] < record.dropped:
            ends[storage] = call_end[index]
    return ends


def _call_ends(graph: ModelGraph, unit: Unit) -> dict[int, int]:
    """For every operator, the operator count at which the recorded call around it ends."""
    paths = [step.path for step in unit.steps]
    ends: dict[int, int] = {}
    end, inside = unit.forward[1], ""
    for index in range(unit.forward[1] - 1, unit.forward[0] - 1, -1):
        module = graph.ops[index].module
        step = next((p for p in paths if module == p or module.startswith(p + ".")), "")
        if not step or step != inside:
            end = index + 1
        inside = step
        ends[index] = end
    return ends
