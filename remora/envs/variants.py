"""Models that nobody built: the shape of a real one, with sizes and times of its parts redrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from remora.errors import InvalidInputError
from remora.graph.model_graph import ACTIVATION, ModelGraph

__all__ = ["variants_of"]

_Factors = Mapping[int, tuple[float, float]]
"""Of bytes and of work, by unit."""


def variants_of(
    graphs: Mapping[int, ModelGraph], spread: float, seed: int
) -> dict[int, ModelGraph]:
    """Redraw activation sizes and operator costs around those of a real model.

    All units of one kind change alike, by factors whose logarithms are normal, so that equal units
    stay equal and the median model is the real one. Weights keep their sizes.

    Args:
        graphs: the real model by number of micro-batches; all change alike.
        spread: standard deviation of the factors' logarithms.
        seed: of the draws.

    Raises:
        InvalidInputError: the spread is negative.
    """
    if not spread >= 0:
        raise InvalidInputError(f"spread is {spread}; allowed: 0 or more")
    generator = np.random.default_rng(seed)
    whole = graphs[min(graphs)]
    drawn = {
        kind: (_factor(generator, spread), _factor(generator, spread))
        for kind in dict.fromkeys(unit.kind for unit in whole.units)
    }
    factors = {unit.index: drawn[unit.kind] for unit in whole.units}
    return {count: _variant(graph, factors) for count, graph in graphs.items()}


def _factor(generator: np.random.Generator, spread: float) -> float:
    return float(np.exp(generator.normal(0.0, spread)))


def _variant(graph: ModelGraph, factors: _Factors) -> ModelGraph:
    units = [op.unit for op in graph.ops]
    storages = tuple(
        replace(storage, num_bytes=round(storage.num_bytes * factors[units[storage.created]][0]))
        if storage.role == ACTIVATION and storage.created >= 0
        else storage
        for storage in graph.storages
    )
    ops = tuple(
        replace(
            op,
            flops=op.flops * factors[op.unit][1],
            bytes_read=round(op.bytes_read * factors[op.unit][0]),
            bytes_written=round(op.bytes_written * factors[op.unit][0]),
        )
        for op in graph.ops
    )
    renamed = tuple(
        replace(unit, kind=_kind(unit.kind, factors[unit.index])) for unit in graph.units
    )
    return replace(graph, storages=storages, ops=ops, units=renamed)


def _kind(kind: str, factors: tuple[float, float]) -> str:
    """The name of a changed kind: what is remembered by kind must not meet the real one's."""
    return kind if factors == (1.0, 1.0) else f"{kind}*{factors[0]:.6g}*{factors[1]:.6g}"
