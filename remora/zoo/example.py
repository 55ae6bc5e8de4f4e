"""What every builder of a model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Example"]


class Example(NamedTuple):
    """A model in training mode, the arguments of one call of it, and its loss.

    It is a plain tuple ``(model, example_inputs, loss)``, the form that a builder of a user
    returns too.

    Attributes:
        model: the module, in training mode.
        example_inputs: keyword arguments as a dict, or positional arguments as a tuple; the
            leading dimension of every tensor is the batch.
        loss: maps the model's output to a scalar; None where the output carries it as ``.loss``.
    """

    model: nn.Module
    example_inputs: Mapping[str, Any] | tuple[Any, ...]
    loss: Callable[[Any], Tensor] | None = None
