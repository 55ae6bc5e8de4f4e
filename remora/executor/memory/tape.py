"""A tape of the calls of a region, with tensors replaced by numbers, from which it is replayed.

A value is a tensor object that appears on the tape. It is either the result of an earlier call or
an input of the region; inputs are held by the tape's owner, results are not.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from remora.executor.memory.ambient import Ambient
from remora.executor.memory.nesting import (
    Spec,
    flatten_arguments,
    output_leaves,
    unflatten_arguments,
)

__all__ = [
    "Call",
    "FlatArguments",
    "HeldTensor",
    "RegionInput",
    "Tape",
    "Value",
    "arguments",
    "flatten",
    "hold",
]


@dataclass(frozen=True, slots=True)
class Value:
    """Stands for a tensor on the tape."""

    number: int


class RegionInput(Protocol):
    """A tensor that a region holds, on the device or elsewhere."""

    @property
    def changed(self) -> bool:
        """Whether it was changed in place since it was taken."""
        ...

    def open(self) -> Tensor:
        """Return it, on the device."""
        ...


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """A tensor that a region holds on the device, without the autograd graph behind it.

    Attributes:
        tensor: shares its storage, and says whether a gradient is wanted.
        version: number of in-place changes when it was taken.
        sequence: autograd's number of the operator that made it; -1 for a leaf.
    """

    tensor: Tensor
    version: int
    sequence: int

    @property
    def changed(self) -> bool:
        """Whether the tensor was changed in place since it was taken."""
        return self.tensor._version != self.version

    def open(self) -> Tensor:
        """Return the tensor."""
        return self.tensor


def hold(tensor: Tensor, version: int | None = None) -> HeldTensor:
    """Hold a tensor without keeping the operators alive that made it.

    Leaves are held as they are, so that parameters stay parameters.

    Args:
        tensor: the tensor.
        version: number of in-place changes when it was read; None for its present number.
    """
    version = tensor._version if version is None else version
    if tensor.grad_fn is None:
        return HeldTensor(tensor, version, -1)
    sequence = tensor.grad_fn._sequence_nr()
    return HeldTensor(tensor.detach().requires_grad_(), version, sequence)


@dataclass(frozen=True, slots=True)
class FlatArguments:
    """Arguments of a call that is about to run.

    Attributes:
        leaves: what they consist of.
        states: number of in-place changes of every tensor leaf and whether it wants a gradient;
            None for leaves that are no tensors.
        spec: how the leaves nest into (args, kwargs).
    """

    leaves: tuple[Any, ...]
    states: tuple[tuple[int, bool] | None, ...]
    spec: Spec

    def changed(self) -> list[Tensor]:
        """Return the tensors that were changed in place since."""
        return [
            leaf
            for leaf, state in zip(self.leaves, self.states, strict=True)
            if state is not None and leaf._version != state[0]
        ]


def flatten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlatArguments:
    """Flatten arguments, before a call that may change them in place."""
    leaves, spec = flatten_arguments(args, kwargs)
    states = tuple(
        (leaf._version, leaf.requires_grad) if isinstance(leaf, Tensor) else None for leaf in leaves
    )
    return FlatArguments(leaves, states, spec)


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call.

    Attributes:
        function: what is called; for a module its own forward.
        spec: how the leaves nest into (args, kwargs).
        leaves: constants, and :class:`Value` in place of tensors.
        outputs: number of every output leaf; None for one that is no new tensor.
        unit: unit that it belongs to.
        ambient: modes under which it ran.
    """

    function: Callable[..., Any]
    spec: Spec
    leaves: tuple[Any, ...]
    outputs: tuple[int | None, ...]
    unit: int
    ambient: Ambient

    @property
    def reads(self) -> tuple[int, ...]:
        """Numbers of the values among the arguments."""
        return tuple(leaf.number for leaf in self.leaves if isinstance(leaf, Value))


@dataclass(slots=True)
class _Known:
    """A tensor object that stands for a value, as the tape last saw it."""

    tensor: weakref.ref[Tensor]
    number: int
    wants_gradient: bool


@dataclass(slots=True)
class Tape:
    """Calls in the order in which they ran, and the region's inputs.

    Attributes:
        calls: grows while the region runs.
        inputs: tensors that came from outside, by number.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: dict[int, RegionInput] = field(default_factory=dict)
    _known: dict[int, _Known] = field(default_factory=dict)
    _count: int = 0

    def append(
        self,
        function: Callable[..., Any],
        arguments: FlatArguments,
        output: Any,
        unit: int,
        ambient: Ambient,
    ) -> None:
        """Add a call that has just run; tensors it read and nobody made become inputs.

        Args:
            function: what was called.
            arguments: from :func:`flatten`, taken before it ran.
            output: what it returned.
            unit: unit that it belongs to.
            ambient: modes under which it ran.
        """
        leaves = tuple(map(self._numbered, arguments.leaves, arguments.states))
        for changed in arguments.changed():
            self._known[id(changed)].wants_gradient = changed.requires_grad
        outputs = tuple(self._new_number(leaf) for leaf in output_leaves(output))
        self.calls.append(Call(function, arguments.spec, leaves, outputs, unit, ambient))

    def close(self) -> None:
        """Forget which tensors stand for which values: recording is over."""
        self._known.clear()
        self.inputs = {}

    def number_of(self, tensor: Tensor) -> int | None:
        """Number of a tensor that the tape knows, as it is now; None if it knows none."""
        return self._number_of(tensor, tensor.requires_grad)

    def inputs_of(self, first: int, end: int) -> frozenset[int]:
        """Numbers that calls ``first`` to ``end - 1`` read and none of them makes."""
        made: set[int] = set()
        needed: set[int] = set()
        for call in self.calls[first:end]:
            needed.update(number for number in call.reads if number not in made)
            made.update(number for number in call.outputs if number is not None)
        return frozenset(needed)

    def last_reads(self, first: int, end: int) -> dict[int, int]:
        """For every value read by calls ``first`` to ``end - 1``, the last call that reads it."""
        return {number: index for index in range(first, end) for number in self.calls[index].reads}

    def _numbered(self, leaf: Any, state: tuple[int, bool] | None) -> Any:
        if state is None:
            return leaf
        number = self._number_of(leaf, wants_gradient=state[1])
        if number is None:
            number = self._register(leaf)
            self.inputs[number] = hold(leaf, version=state[0])
        return Value(number)

    def _new_number(self, leaf: Any) -> int | None:
        if not isinstance(leaf, Tensor) or self._number_of(leaf, leaf.requires_grad) is not None:
            return None
        return self._register(leaf)

    def _number_of(self, tensor: Tensor, wants_gradient: bool) -> int | None:
        known = self._known.get(id(tensor))
        # The id of a tensor that died may have been given to another one.
        if known is None or known.tensor() is not tensor:
            return None
        # A custom autograd function turns a result of its forward into one that wants a gradient,
        # behind the back of the tape.
        return known.number if known.wants_gradient == wants_gradient else None

    def _register(self, tensor: Tensor) -> int:
        number = self._count
        self._count += 1
        self._known[id(tensor)] = _Known(weakref.ref(tensor), number, tensor.requires_grad)
        return number


def arguments(call: Call, values: dict[int, Tensor]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Rebuild (args, kwargs) of a call from the values of a replay."""
    leaves = [values[leaf.number] if isinstance(leaf, Value) else leaf for leaf in call.leaves]
    return unflatten_arguments(leaves, call.spec)
