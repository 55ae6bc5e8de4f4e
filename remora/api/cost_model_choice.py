"""Which cost model a request means, and why."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remora.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from remora.cost_models.gnn.cost_model import GnnCostModel
    from remora.simulator.records import CostModel

__all__ = [
    "AUTO",
    "COST_MODELS",
    "GNN",
    "PROFILED",
    "ROOFLINE",
    "CostChoice",
    "check_cost_model",
    "choose_cost_model",
    "cost_model_of",
    "learned_cost_model",
]

AUTO, PROFILED, ROOFLINE, GNN = "auto", "profiled", "roofline", "gnn"
COST_MODELS = (AUTO, PROFILED, ROOFLINE, GNN)


@dataclass(frozen=True)
class CostChoice:
    """A cost model and why it was taken.

    Attributes:
        name: ``profiled``, ``gnn`` or ``roofline``.
        reason: the end of a sentence.
    """

    name: str
    reason: str


def check_cost_model(name: str, weights: str | None, local: bool) -> None:
    """Refuse what can be refused before the hardware is known.

    Args:
        name: one of :data:`COST_MODELS`.
        weights: folder of a trained model, or None.
        local: whether the hardware is the machine at hand.

    Raises:
        UnknownNameError: no such name.
        InvalidInputError: ``profiled`` for a hardware that is not at hand, or weights for a cost
            model that has none.
    """
    if name not in COST_MODELS:
        raise UnknownNameError("cost_model", name, COST_MODELS)
    if name == PROFILED and not local:
        raise InvalidInputError(
            "cost_model is 'profiled', allowed for hardware that is not at hand: gnn, roofline"
        )
    if weights is not None and name not in (GNN, AUTO):
        raise InvalidInputError(
            f"cost_model.weights is {weights!r}, allowed with cost_model={name}: nothing"
        )
    if weights is not None and not (Path(weights) / "card.json").is_file():
        raise InvalidInputError(
            f"cost_model.weights is {weights!r}, where there is no card.json; allowed: a folder "
            "that train-cost-model wrote"
        )


def choose_cost_model(
    name: str, weights: str | None, local: bool, device_type: str, hardware_name: str
) -> CostChoice:
    """Decide what prices a graph; ``auto`` takes the best that there is.

    That is measuring where the machine is at hand, what was learned where devices of its type
    were measured elsewhere, and else the roofline.

    Args:
        name: one of :data:`COST_MODELS`.
        weights: folder of a trained model; None for the one that ships with the package.
        local: whether the hardware is the machine at hand.
        device_type: of the hardware, ``cpu`` or ``cuda``.
        hardware_name: for the reason.

    Raises:
        UsageError: see :func:`check_cost_model`, or the weights cannot be read.
    """
    check_cost_model(name, weights, local)
    if name != AUTO:
        return CostChoice(name, "as asked for")
    if local and weights is None:
        return CostChoice(PROFILED, "since this machine is at hand and its operators are measured")
    known = learned_cost_model(weights).device_types
    if device_type in known:
        return CostChoice(
            GNN,
            f"since {hardware_name} is not at hand to be measured, and the learned cost model has "
            f"seen devices of type {device_type}",
        )
    seen = ", ".join(known)
    return CostChoice(
        ROOFLINE,
        f"since {hardware_name} is not at hand to be measured, and the learned cost model has "
        f"seen devices of type {seen} only",
    )


def learned_cost_model(weights: str | None) -> GnnCostModel:
    """Read a trained model, once per process.

    Args:
        weights: its folder; None for the one that ships with the package.

    Raises:
        FileFormatError: the folder holds none.
        UnknownNameError: the package has none.
    """
    from remora.cost_models.gnn.weights import DEFAULT, pretrained_path

    return _read(pretrained_path(DEFAULT) if weights is None else Path(weights))


def cost_model_of(source: str, weights: str | None) -> CostModel:
    """Return what estimates schedules of a problem whose cost table has this source."""
    from remora.cost_models.simulated import SimulatedCostModel

    return learned_cost_model(weights) if source == GNN else SimulatedCostModel(source)


@functools.lru_cache(maxsize=4)
def _read(path: Path) -> GnnCostModel:
    from remora.cost_models.gnn.weights import load_cost_model

    return load_cost_model(path)[0]
