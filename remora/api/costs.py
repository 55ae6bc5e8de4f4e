"""The cost table of a graph: measured on the machine at hand, or from its hardware's rates."""

from __future__ import annotations

import logging

from remora.errors import InvalidInputError, UnknownNameError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.problem import CostTable, OptimizerSpec
from remora.zoo import Example

__all__ = ["AUTO", "COST_MODELS", "make_costs", "pick_cost_model"]

AUTO = "auto"
COST_MODELS = (AUTO, "roofline", "profiled")

_LOG = logging.getLogger(__name__)


def pick_cost_model(cost_model: str, local: bool) -> str:
    """Return the cost model that a name of the configuration means.

    Args:
        cost_model: ``auto``, ``roofline`` or ``profiled``.
        local: whether the hardware is the machine at hand.

    Raises:
        UnknownNameError: no such name.
        InvalidInputError: ``profiled`` for a hardware that is not at hand.
    """
    if cost_model not in COST_MODELS:
        raise UnknownNameError("cost_model", cost_model, COST_MODELS)
    if cost_model == AUTO:
        return "profiled" if local else "roofline"
    if cost_model == "profiled" and not local:
        raise InvalidInputError(
            "cost_model is 'profiled', allowed for hardware that is not at hand: roofline"
        )
    return cost_model


def make_costs(
    graph: ModelGraph,
    hardware: Hardware,
    optimizer: OptimizerSpec,
    cost_model: str,
    example: Example | None = None,
) -> CostTable:
    """Return seconds and bytes of every operator of ``graph`` on ``hardware``.

    Args:
        graph: the traced step.
        hardware: what it runs on.
        optimizer: its step is part of the table.
        cost_model: ``roofline`` or ``profiled``; the latter measures what its cache lacks.
        example: the model for real, if it is at hand: where operators are short, the time of its
            own Python code is measured too.
    """
    from remora.cost_models.measurement_cache import collect_measurements
    from remora.cost_models.profiled import profiled_costs
    from remora.cost_models.roofline import roofline_costs
    from remora.executor.replay.replayer import Replayer

    if cost_model == "roofline":
        return roofline_costs(graph, hardware, optimizer.name)
    replayer = Replayer()
    if example is not None:
        replayer = Replayer(
            model=example.model, example_inputs=example.example_inputs, loss=example.loss
        )
    measurements = collect_measurements(graph, hardware, optimizer.name, replayer)
    for note in measurements.notes:
        _LOG.info(note)
    return profiled_costs(graph, hardware, measurements)
