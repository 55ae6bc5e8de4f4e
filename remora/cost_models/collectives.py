"""Seconds of the collectives among ranks that share layers, from the links: nothing is measured."""

from __future__ import annotations

from dataclasses import replace

from remora.graph.model_graph import COLLECTIVES, ModelGraph, Op
from remora.hardware.hardware import Hardware
from remora.schedule.costs import CostTable
from remora.schedule.links import collective_s

__all__ = ["collective_time_s", "with_collectives"]


def with_collectives(costs: CostTable, graph: ModelGraph, hardware: Hardware) -> CostTable:
    """Return the same costs with the links' seconds for every collective."""
    if graph.tensor_degree == 1:
        return costs
    times = [
        collective_time_s(graph, op, hardware) if op.name in COLLECTIVES else time_s
        for op, time_s in zip(graph.ops, costs.op_time_s, strict=True)
    ]
    return replace(costs, op_time_s=tuple(times))


def collective_time_s(graph: ModelGraph, op: Op, hardware: Hardware) -> float:
    """Return seconds of one collective; its result is all that is summed or joined."""
    num_bytes = graph.storages[graph.tensors[op.outputs[0]].storage].num_bytes
    return collective_s(hardware, op.name, int(op.args[1]), num_bytes)
