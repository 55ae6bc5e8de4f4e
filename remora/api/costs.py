"""The cost table of a graph: measured on the machine at hand, learned, or from rates alone."""

from __future__ import annotations

import contextlib
import logging

from remora.api.cost_model_choice import GNN, ROOFLINE, learned_cost_model
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.assignment import reduced_modules
from remora.graph.precision.reduced import reduced_model
from remora.hardware.hardware import Hardware
from remora.schedule.problem import CostTable, OptimizerSpec
from remora.zoo import Example

__all__ = ["make_costs"]

_LOG = logging.getLogger(__name__)


def make_costs(
    graph: ModelGraph,
    hardware: Hardware,
    optimizer: OptimizerSpec,
    cost_model: str,
    example: Example | None = None,
    weights: str | None = None,
) -> CostTable:
    """Return seconds and bytes of every operator of ``graph`` on ``hardware``.

    Args:
        graph: the traced step.
        hardware: what it runs on.
        optimizer: its step is part of the table.
        cost_model: ``roofline``, ``gnn``, or ``profiled``, which measures what its cache lacks.
        example: the model for real, if it is at hand: where operators are short, the time of its
            own Python code is measured too.
        weights: folder of a trained ``gnn``; None for the one that ships with the package.
    """
    from remora.cost_models.collectives import with_collectives
    from remora.cost_models.measurement_cache import collect_measurements
    from remora.cost_models.profiled import profiled_costs
    from remora.cost_models.roofline import roofline_costs
    from remora.executor.replay.replayer import Replayer

    if cost_model == ROOFLINE:
        return roofline_costs(graph, hardware, optimizer.name)
    if cost_model == GNN:
        learned = learned_cost_model(weights)
        for note in learned.notes(graph, hardware):
            _LOG.warning(note)
        return with_collectives(learned.costs(graph, hardware, optimizer.name), graph, hardware)
    replayer, reduced = Replayer(), contextlib.ExitStack()
    if example is not None:
        replayer = Replayer(
            model=example.model, example_inputs=example.example_inputs, loss=example.loss
        )
        paths = reduced_modules(graph)
        reduced.enter_context(reduced_model(example.model, paths, graph.forward_only))
    with reduced:
        measurements = collect_measurements(graph, hardware, optimizer.name, replayer)
    for note in measurements.notes:
        _LOG.info(note)
    if measurements.disturbance:
        _LOG.warning(measurements.disturbance)
    return with_collectives(profiled_costs(graph, hardware, measurements), graph, hardware)
