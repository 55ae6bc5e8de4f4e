"""Encoding units once, however many folds and families of a training ask for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from remora.cost_models.gnn.op_context import storage_ends
from remora.cost_models.gnn.op_features import UnitFeatures, encode_unit
from remora.graph.model_graph import ModelGraph, Unit
from remora.hardware.hardware import Hardware

__all__ = ["UnitEncoder"]


@dataclass(slots=True)
class _Encoded:
    """Units of one graph on one device; holds both, so that no other object gets their identity."""

    graph: ModelGraph
    hardware: Hardware
    ends: list[int]
    units: dict[int, UnitFeatures] = field(default_factory=dict)


class UnitEncoder:
    """Encodes units of graphs and keeps what it encoded, by identity of graph and hardware."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[int, int], _Encoded] = {}

    def unit(self, graph: ModelGraph, unit: Unit, hardware: Hardware) -> UnitFeatures:
        """Describe the operators of a unit, see :func:`encode_unit`.

        Args:
            graph: the traced step.
            unit: one of its units.
            hardware: rates of the device.
        """
        key = id(graph), id(hardware)
        known = self._graphs.get(key)
        if known is None:
            known = self._graphs[key] = _Encoded(graph, hardware, storage_ends(graph))
        if unit.index not in known.units:
            known.units[unit.index] = encode_unit(graph, unit, known.ends, hardware)
        return known.units[unit.index]

    def kinds(self, graph: ModelGraph, hardware: Hardware) -> dict[str, UnitFeatures]:
        """Describe the first unit of every kind in a graph, by kind."""
        first = {unit.kind: unit for unit in reversed(graph.units)}
        return {kind: self.unit(graph, unit, hardware) for kind, unit in first.items()}
