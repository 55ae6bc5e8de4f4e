"""How a model is called on its example batch, and the scalar that its backward starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from remora.errors import InvalidInputError

__all__ = ["ExampleInputs", "LossFunction", "call_model", "default_loss", "resolve_loss"]

ExampleInputs = tuple[Any, ...] | Mapping[str, Any]
LossFunction = Callable[[Any], Tensor]


def call_model(model: nn.Module, example_inputs: ExampleInputs) -> Any:
    """Call ``model`` once.

    Args:
        model: the module.
        example_inputs: positional arguments as a tuple (or list), or keyword arguments as a
            mapping.

    Raises:
        InvalidInputError: the inputs are neither.
    """
    if isinstance(example_inputs, Mapping):
        return model(**example_inputs)
    if isinstance(example_inputs, tuple | list):
        return model(*example_inputs)
    raise InvalidInputError(
        f"example_inputs is of type {type(example_inputs).__name__}; allowed are a tuple of "
        "positional arguments and a dict of keyword arguments"
    )


def resolve_loss(loss: LossFunction | None) -> LossFunction:
    """Return the loss to use: ``loss`` itself, or :func:`default_loss` for None."""
    return default_loss if loss is None else loss


def default_loss(output: Any) -> Tensor:
    """Return ``output.loss`` where there is one, else the sum of squares of the float outputs.

    Args:
        output: what the model returned; any nesting of tuples, lists, dicts and records.

    Returns:
        A scalar tensor.

    Raises:
        InvalidInputError: the output holds no floating point tensor.
    """
    own = getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return own
    floats = [leaf for leaf in _tensors(output) if leaf.is_floating_point() or leaf.is_complex()]
    if not floats:
        raise InvalidInputError(
            "the model's output holds no floating point tensor; give a loss function"
        )
    total = _sum_of_squares(floats[0])
    for tensor in floats[1:]:
        total = total + _sum_of_squares(tensor)
    return total


def _sum_of_squares(tensor: Tensor) -> Tensor:
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real.square().sum()


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
