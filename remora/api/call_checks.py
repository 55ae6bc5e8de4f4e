"""What a call from Python may be given, where the command line checks it by its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from remora.errors import InvalidInputError
from remora.schedule.inference import Mode

__all__ = ["check_call"]


def check_call(
    model: object, loss: object, mode: str, lists: Mapping[str, Sequence[str] | None]
) -> None:
    """Refuse objects of other kinds than a call from Python takes.

    Args:
        model: what is planned for.
        loss: of its output, or None.
        mode: what is planned.
        lists: lists of names, or None, by the argument that they came in.

    Raises:
        InvalidInputError: names the argument, what it is and what is allowed.
    """
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"model is a {type(model).__name__}; allowed: a torch.nn.Module")
    if loss is not None and not callable(loss):
        raise InvalidInputError(f"loss is {loss!r}; allowed: a function of the model's output")
    if loss is not None and mode == Mode.INFERENCE:
        raise InvalidInputError("loss is given with mode='inference'; allowed: none")
    for name, value in lists.items():
        if isinstance(value, str):
            raise InvalidInputError(f"{name} is {value!r}; allowed: a list of names")
