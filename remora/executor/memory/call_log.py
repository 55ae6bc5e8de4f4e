"""The aten calls of one unit's forward, with storages replaced by numbers.

Nothing here keeps an activation alive that the planner does not hold for a rerun: storages are
known by weak references, whose existence also keeps an address from being used twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from remora.executor.memory.ambient import RandomState, random_state
from remora.executor.memory.layout import Layout, bytes_of, is_plain, layout_of
from remora.executor.memory.operators import Operator
from remora.schedule.closure import Step

__all__ = ["CallLog", "Draw", "Expected", "LoggedCall", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """Stands for a tensor argument.

    Attributes:
        number: of its storage; None if only the layout matters.
        layout: how it views the storage.
        device: where it is.
        scratch: whether a copy has to take its place, since the call changes it.
    """

    number: int | None
    layout: Layout
    device: torch.device
    scratch: bool = False


@dataclass(frozen=True, slots=True)
class Draw:
    """Random state before a call.

    Attributes:
        default: of the default generators.
        generator, state: the generator that the call was given, and its state; or None.
    """

    default: RandomState
    generator: torch.Generator | None
    state: Tensor | None


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One call.

    Attributes:
        function: the overload.
        args, kwargs: arguments with :class:`View` in place of tensors.
        made: number and bytes of every storage among its results that it made, by position.
        draw: random state it ran under, if it is random.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made: dict[int, tuple[int, int]]
    draw: Draw | None


@dataclass(frozen=True, slots=True)
class Expected:
    """A call as the trace has it.

    Attributes:
        name: of its operator.
        loose: positions among its tensor arguments of activations that nothing needs later.
    """

    name: str
    loose: frozenset[int]


@dataclass(slots=True)
class _Pending:
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


class CallLog:
    """Writes calls down; see :meth:`before` and :meth:`after`.

    As long as the calls are those of the trace, only those tensors from outside are held that the
    trace says a rerun needs; from the first other call on all are.

    Args:
        expected: the calls of the trace.
        device: whose random state random calls use.

    Attributes:
        calls, steps: what ran, and how the closure sees it, in the same order.
        held: tensors from outside that are kept alive, by number.
        before_writes: copies of storages from outside that a call changed, as they were before.
    """

    def __init__(self, expected: tuple[Expected, ...], device: torch.device) -> None:
        self.calls: list[LoggedCall] = []
        self.steps: list[Step] = []
        self.held: dict[int, Tensor] = {}
        self.before_writes: dict[int, torch.UntypedStorage] = {}
        self._expected = expected
        self._device = device
        self._in_step = True
        self._numbers: dict[int, int] = {}
        self._references: list[StorageWeakRef] = []
        self._made: set[int] = set()
        self._blank: set[int] = set()

    def number_of(self, tensor: Tensor) -> int:
        """Number of the storage behind a tensor, a new one if it was not met before."""
        storage = tensor.untyped_storage()
        number = self._numbers.get(storage._cdata)
        if number is None:
            number = self._numbers[storage._cdata] = len(self._references)
            self._references.append(StorageWeakRef(storage))
        return number

    def can_make(self, number: int) -> bool:
        """Whether logged calls made a storage and gave it its content."""
        return number in self._made and number not in self._blank

    def alive(self, number: int) -> Tensor | None:
        """Return the bytes of a storage that somebody still holds, uint8 ``[num_bytes]``."""
        reference = self._references[number].cdata
        storage = torch.UntypedStorage._new_with_weak_ptr(reference)
        return None if storage is None else bytes_of(storage)

    def before(
        self, operator: Operator, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Pending:
        """Note a call that is about to run."""
        tensors = list(_tensors((args, kwargs)))
        numbers = [self.number_of(tensor) if is_plain(tensor) else -1 for tensor in tensors]
        written = self._numbers_at(operator.written, args, kwargs)
        scratch = self._numbers_at(operator.scratch, args, kwargs)
        for number in written:
            self._keep_original(number)
        specs, named = self._specs(operator, args, kwargs)
        return _Pending(
            operator=operator,
            function=function,
            args=specs,
            kwargs=named,
            tensors=tensors,
            numbers=numbers,
            written=written,
            scratch=scratch,
            draw=_draw(kwargs, self._device) if operator.random else None,
        )

    def after(self, call: _Pending, result: Any) -> None:
        """Note that the call returned ``result``."""
        results = list(_tensors(result))
        plain = -1 not in call.numbers and all(is_plain(tensor) for tensor in results)
        made = self._new_storages(results) if plain else {}
        if plain and not made and not call.written and not call.scratch:
            return
        self._check_step(call.operator.name)
        if call.operator.barrier or not plain:
            # Nobody can make these again, so whoever needs them finds them as they are.
            for tensor in results:
                if is_plain(tensor):
                    self.held[self.number_of(tensor)] = tensor
            made = {}
        self._hold_outside(call)
        reads = () if call.operator.layout_only else tuple(dict.fromkeys(call.numbers))
        self._meet_blanks(call, reads)
        numbers = tuple(number for number, _ in made.values())
        self._made.update(numbers)
        self._blank.difference_update(call.written)
        if call.operator.empty:
            self._blank.update(numbers)
        self.calls.append(LoggedCall(call.function, call.args, call.kwargs, made, call.draw))
        self.steps.append(
            Step(
                reads=tuple(n for n in reads if n >= 0 and n not in call.scratch),
                makes=numbers,
                writes=tuple(n for n in call.written if n not in numbers),
                scratch=call.scratch,
                barrier=call.operator.barrier or not plain,
            )
        )

    def final_steps(self) -> list[Step]:
        """The calls as the closure sees them; what was made out of sight is nobody's result."""
        return [
            Step(
                step.reads,
                tuple(number for number in step.makes if number in self._made),
                step.writes,
                step.scratch,
                step.barrier,
            )
            for step in self.steps
        ]

    def _check_step(self, name: str) -> None:
        position = len(self.calls)
        same = position < len(self._expected) and self._expected[position].name == name
        if self._in_step and not same:
            self._in_step = False
            for number in range(len(self._references)):
                tensor = self.alive(number) if number not in self._made else None
                if tensor is not None and number not in self.held:
                    self.held[number] = tensor

    def _hold_outside(self, call: _Pending) -> None:
        loose = self._expected[len(self.calls)].loose if self._in_step else frozenset()
        for position, (tensor, number) in enumerate(zip(call.tensors, call.numbers, strict=True)):
            outside = number >= 0 and number not in self._made and number not in self.held
            if outside and position not in loose:
                self.held[number] = tensor

    def _meet_blanks(self, call: _Pending, reads: tuple[int, ...]) -> None:
        """Something that no call wrote to but one reads was written out of sight."""
        for tensor, number in zip(call.tensors, call.numbers, strict=True):
            if number in self._blank and number in reads and number not in call.written:
                self._blank.discard(number)
                self._made.discard(number)
                self.held[number] = tensor

    def _new_storages(self, results: list[Tensor]) -> dict[int, tuple[int, int]]:
        made = {}
        for position, tensor in enumerate(results):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._numbers:
                made[position] = (self.number_of(tensor), storage.nbytes())
        return made

    def _keep_original(self, number: int) -> None:
        if number not in self._made and number not in self.before_writes:
            present = self.alive(number)
            assert present is not None
            self.before_writes[number] = present.clone().untyped_storage()

    def _numbers_at(
        self, places: tuple[tuple[int, str], ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, ...]:
        values = [args[i] if i < len(args) else kwargs.get(name) for i, name in places]
        found = [self.number_of(tensor) for tensor in _tensors(values) if is_plain(tensor)]
        return tuple(dict.fromkeys(found))

    def _specs(
        self, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        specs = [self._spec(value) for value in args]
        named = {name: self._spec(value) for name, value in kwargs.items()}
        if operator.layout_only:
            model = specs[0]
            specs[0] = replace(model, number=None)
            named["device"] = named.get("device") or model.device
        for position, name in operator.scratch:
            place: Any = specs if position < len(specs) else named
            key = position if position < len(specs) else name
            if isinstance(place[key], View):
                place[key] = replace(place[key], scratch=True)
        return tuple(specs), named

    def _spec(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            number = self.number_of(value) if is_plain(value) else None
            return View(number, layout_of(value), value.device)
        if isinstance(value, (list, tuple)):
            return [self._spec(item) for item in value]
        return value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield tensors in arguments or results, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _draw(kwargs: dict[str, Any], device: torch.device) -> Draw:
    generator = kwargs.get("generator")
    state = generator.get_state() if generator is not None else None
    return Draw(random_state(device), generator, state)
