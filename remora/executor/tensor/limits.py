"""What ranks that share layers cannot run, said before anything starts."""

from __future__ import annotations

from torch import nn

from remora.errors import InvalidInputError
from remora.executor.replay.operands import find_operator
from remora.executor.tensor.shared_layers import cut_dimensions
from remora.graph.model_graph import COLLECTIVES, PARAMETER, ModelGraph, Op
from remora.graph.tensor.plan import check_degree, tensor_plan

__all__ = ["check_shared_layers"]

_RATES = ("dropout_p", "p")


def check_shared_layers(model: nn.Module, graph: ModelGraph, degree: int) -> None:
    """Refuse a model whose cut layers draw random numbers.

    Every rank would draw for its slice alone, which is not what one process draws.

    Args:
        model: whole.
        graph: of one of the ranks, of one micro-batch.
        degree: ranks that share its layers.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    if degree == 1:
        return
    check_degree(model, degree)
    cut = set(cut_dimensions(model, tensor_plan(model)))
    sliced = {
        index
        for index, storage in enumerate(graph.storages)
        if storage.role == PARAMETER and storage.name in cut
    }
    for op in graph.ops[: graph.num_forward_ops]:
        storages = {graph.tensors[tensor].storage for tensor in op.inputs}
        if op.name in COLLECTIVES or not storages & sliced:
            continue
        if op.random and _dropout_rate(op) != 0:
            unit = graph.units[op.unit].name
            raise InvalidInputError(
                f"tensor.degree is {degree} and unit {unit!r} draws random numbers ({op.name}) "
                "inside of a layer that is cut, each rank its own; allowed where a schedule is "
                "run: models without dropout there"
            )
        sliced |= {graph.tensors[tensor].storage for tensor in op.outputs}


def _dropout_rate(op: Op) -> float | None:
    """Rate of an operator that draws for dropout alone; None for others."""
    arguments = find_operator(op.name)._schema.arguments  # type: ignore[attr-defined]
    given = dict(zip((a.name for a in arguments), op.args, strict=False)) | dict(op.kwargs)
    rates = (given.get(a.name, a.default_value) for a in arguments if a.name in _RATES)
    return next((float(rate) for rate in rates if rate is not None), None)
