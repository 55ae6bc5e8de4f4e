"""Records of the calls that a :mod:`remora.executor.memory.call_log` notes.

They are made in the forward pass, call by call, so most of them are plain tuples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from remora.executor.memory.ambient import RandomState, random_state
from remora.executor.memory.layout import Layout
from remora.executor.memory.operators import Operator

__all__ = [
    "STRANGE",
    "Draw",
    "Expected",
    "LoggedCall",
    "PendingCall",
    "View",
    "draw_of",
    "numbers_at",
    "tensors_in",
]

STRANGE = -1
"""Number of a tensor that is more than a view of memory."""


class View(NamedTuple):
    """Stands for a tensor argument.

    Attributes:
        number: of its storage.
        layout: how it views the storage.
        device: where it is.
    """

    number: int
    layout: Layout
    device: torch.device


class Draw(NamedTuple):
    """Random state before a call.

    Attributes:
        default: of the default generators.
        generator, state: the generator that the call was given, and its state; or None.
    """

    default: RandomState
    generator: torch.Generator | None
    state: Tensor | None


class LoggedCall(NamedTuple):
    """One call.

    Attributes:
        operator: what is known of the operator.
        function: the overload.
        args, kwargs: arguments with :class:`View` in place of tensors.
        numbers: of the storages of its tensor arguments, in order.
        made: number and bytes of every storage among its results that it made, by position.
        written, scratch: numbers of storages that it changes; see ``closure.Step``.
        draw: random state it ran under, if it is random.
        strange: whether an argument or result was more than a view of memory.
        whole: whether it could run again; arguments are left out where the trace says that it
            will not have to.
    """

    operator: Operator
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    numbers: list[int]
    made: dict[int, tuple[int, int]]
    written: tuple[int, ...]
    scratch: tuple[int, ...]
    draw: Draw | None
    strange: bool
    whole: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """A call as the trace has it.

    Attributes:
        name: of its operator.
        loose: positions among its tensor arguments of activations that nothing needs later.
        again: whether it will have to run again.
    """

    name: str
    loose: frozenset[int]
    again: bool


class PendingCall(NamedTuple):
    """A call that is running."""

    operator: Operator
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    numbers: list[int]
    written: tuple[int, ...]
    scratch: tuple[int, ...]
    draw: Draw | None
    whole: bool


def numbers_at(
    places: tuple[tuple[int, str], ...], specs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[int, ...]:
    """Numbers of the storages behind some arguments."""
    found: dict[int, None] = {}
    for position, name in places:
        value = specs[position] if position < len(specs) else named.get(name)
        views = value if isinstance(value, list) else [value]
        found.update((v.number, None) for v in views if isinstance(v, View))
    return tuple(number for number in found if number != STRANGE)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield tensors in a result, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def draw_of(kwargs: dict[str, Any], device: torch.device) -> Draw:
    """Note the random state under which a call with these keyword arguments is about to run."""
    generator = kwargs.get("generator")
    state = generator.get_state() if generator is not None else None
    return Draw(random_state(device), generator, state)
