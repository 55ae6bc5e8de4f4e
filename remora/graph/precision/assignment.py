"""From precisions of units to precisions of the modules that they call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.precision import Precision

__all__ = ["module_precisions", "reduced_modules", "units_by_module", "with_precisions"]


def module_precisions(graph: ModelGraph, precisions: Sequence[Precision]) -> dict[str, Precision]:
    """Precision of every module that a unit in fewer bits calls, by path.

    Args:
        graph: of the model at its own precision.
        precisions: of its units.  # [num_units]

    Raises:
        InvalidInputError: the number is wrong, or units that share a module differ.
    """
    if len(precisions) != len(graph.units):
        raise InvalidInputError(
            f"precision.units has {len(precisions)} entries; allowed: {len(graph.units)}, one per "
            "unit, or none"
        )
    for path, units in units_by_module(graph).items():
        found = {precisions[unit] for unit in units}
        if len(found) > 1:
            raise InvalidInputError(
                f"precision.units is {', '.join(sorted(found))} for units "
                f"{', '.join(map(str, units))}, which share module {path!r}; allowed: one "
                "precision for all of them"
            )
    return {
        step.path: precision
        for unit, precision in zip(graph.units, precisions, strict=True)
        for step in unit.steps
        if precision is not Precision.MODEL
    }


def reduced_modules(graph: ModelGraph) -> dict[str, Precision]:
    """Precision of every module that units of a reduced graph call in fewer bits, by path."""
    return module_precisions(graph, graph.precisions) if graph.precisions else {}


def units_by_module(graph: ModelGraph) -> Mapping[str, tuple[int, ...]]:
    """Units that call each of the modules that units consist of, by path."""
    found: dict[str, dict[int, None]] = {}
    for unit in graph.units:
        for step in unit.steps:
            found.setdefault(step.path, {})[unit.index] = None
    return {path: tuple(units) for path, units in found.items()}


def with_precisions(graph: ModelGraph, precisions: Sequence[Precision]) -> ModelGraph:
    """The graph with the precision of every unit written to it.

    Args:
        graph: that was traced with the modules of those units in fewer bits.
        precisions: of its units.  # [num_units]
    """
    units = tuple(
        dataclasses.replace(unit, precision=precision)
        for unit, precision in zip(graph.units, precisions, strict=True)
    )
    return dataclasses.replace(graph, units=units)
