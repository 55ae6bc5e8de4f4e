"""Refusing a plan for a model with other weights than the one that was planned."""

from __future__ import annotations

from torch import nn

from remora.errors import InvalidInputError
from remora.graph.model_graph import PARAMETER, ModelGraph
from remora.graph.precision.assignment import reduced_modules

__all__ = ["check_weights"]


def check_weights(model: nn.Module, graph: ModelGraph) -> None:
    """Compare names and bytes of a model's parameters with those of a plan's graph.

    A deeper model of the same build has every module that a plan names, so its other layers would
    run outside of the plan. A weight that shares memory with one that the graph names is known;
    those that a plan of inference stores in eight bits are not looked at.

    Args:
        model: that a plan is applied to.
        graph: of the model that was planned.

    Raises:
        InvalidInputError: a parameter comes on top or has another size.
    """
    planned = {s.name: s.num_bytes for s in graph.storages if s.role == PARAMETER}
    weights = {name: p.untyped_storage() for name, p in model.named_parameters()}
    shared = {weights[name].data_ptr() for name in planned.keys() & weights.keys()}
    stored_anew = tuple(reduced_modules(graph)) if graph.forward_only else ()
    for name, storage in weights.items():
        if any(name.startswith(f"{path}.") for path in stored_anew):
            continue
        if name not in planned and storage.data_ptr() not in shared:
            raise _refusal(f"has parameter {name!r}, which that of the plan does not have")
        if planned.get(name, storage.nbytes()) != storage.nbytes():
            sizes = f"{storage.nbytes()} bytes, in that of the plan {planned[name]}"
            raise _refusal(f"has parameter {name!r} with {sizes}")


def _refusal(what: str) -> InvalidInputError:
    return InvalidInputError(f"the model {what}; allowed: the model that was planned")
