"""The aten calls of one unit's forward, with storages replaced by numbers.

Nothing here keeps an activation alive that the planner does not hold for a rerun: storages are
known by weak references, whose existence also keeps an address from being used twice. Calls are
noted in the forward pass, so records are plain tuples and what can wait until the end does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from remora.executor.memory.ambient import RandomState, random_state
from remora.executor.memory.layout import Layout, bytes_of, is_plain, layout_of
from remora.executor.memory.operators import Operator
from remora.schedule.closure import Step

__all__ = ["CallLog", "Draw", "Expected", "LoggedCall", "View"]

_STRANGE = -1
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


class _Pending(NamedTuple):
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


class CallLog:
    """Writes calls down; see :meth:`before` and :meth:`after`.

    As long as the calls are those of the trace, only those tensors from outside are held that the
    trace says a rerun needs, and only those calls are noted with their arguments that will run
    again; from the first other call on all are.

    Args:
        expected: the calls of the trace.
        device: whose random state random calls use.

    Attributes:
        calls: what ran, in order.
        held: tensors from outside that are kept alive, by number.
        before_writes: copies of storages from outside that a call changed, as they were before.
    """

    def __init__(self, expected: tuple[Expected, ...], device: torch.device) -> None:
        self.calls: list[LoggedCall] = []
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
        return self._register(storage) if number is None else number

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
        expected = self._expected_now(operator.name)
        whole = expected is None or expected.again
        tensors: list[Tensor] = []
        numbers: list[int] = []
        specs, named = args, kwargs
        if whole or operator.written or operator.scratch:
            specs = tuple([self._spec(value, tensors, numbers) for value in args])
            named = {name: self._spec(value, tensors, numbers) for name, value in kwargs.items()}
        else:
            tensors += _tensors((args, tuple(kwargs.values())))
            numbers += [self.number_of(t) if is_plain(t) else _STRANGE for t in tensors]
        written = _numbers_at(operator.written, specs, named) if operator.written else ()
        for number in written:
            self._keep_original(number)
        return _Pending(
            operator,
            function,
            specs if whole else (),
            named if whole else {},
            tensors,
            numbers,
            written,
            _numbers_at(operator.scratch, specs, named) if operator.scratch else (),
            _draw(kwargs, self._device) if whole and operator.random else None,
            whole,
        )

    def after(self, call: _Pending, result: Any) -> None:
        """Note that the call returned ``result``."""
        results = [result] if type(result) is Tensor else list(_tensors(result))
        strange = _STRANGE in call.numbers or not all(map(is_plain, results))
        made = {} if strange else self._new_storages(results)
        if not (made or strange or call.written or call.scratch):
            return
        expected = self._expected_now(call.operator.name)
        if expected is None and self._in_step:
            self._lose_step()
        if strange or call.operator.barrier:
            # Nobody can make these again, so whoever needs them finds them as they are.
            self.held.update((self.number_of(t), t) for t in results if is_plain(t))
            made = {}
        self._hold_outside(call, frozenset() if expected is None else expected.loose)
        if self._blank:
            self._meet_blanks(call)
        numbers = [number for number, _ in made.values()]
        self._made.update(numbers)
        if call.operator.empty:
            self._blank.update(numbers)
        self.calls.append(
            LoggedCall(
                call.operator,
                call.function,
                call.args,
                call.kwargs,
                call.numbers,
                made,
                call.written,
                call.scratch,
                call.draw,
                strange,
                call.whole,
            )
        )

    def steps(self) -> list[Step]:
        """The calls as the closure sees them; what was made out of sight is nobody's result."""
        return [self._step(call) for call in self.calls]

    def _step(self, call: LoggedCall) -> Step:
        reads = () if call.operator.layout_only else dict.fromkeys(call.numbers)
        made = [number for number, _ in call.made.values()]
        return Step(
            reads=tuple(n for n in reads if n != _STRANGE and n not in call.scratch),
            makes=tuple(number for number in made if number in self._made),
            writes=tuple(number for number in call.written if number not in made),
            scratch=call.scratch,
            barrier=call.operator.barrier or call.strange,
        )

    def _register(self, storage: torch.UntypedStorage) -> int:
        number = self._numbers[storage._cdata] = len(self._references)
        self._references.append(StorageWeakRef(storage))
        return number

    def _expected_now(self, name: str) -> Expected | None:
        """The next call of the trace, if it is this one and all before it were."""
        position = len(self.calls)
        if not self._in_step or position >= len(self._expected):
            return None
        expected = self._expected[position]
        return expected if expected.name == name else None

    def _lose_step(self) -> None:
        """From now on nothing is known beforehand: hold all that calls so far cannot make."""
        self._in_step = False
        for call in self.calls:
            if not call.whole:
                self._made.difference_update(number for number, _ in call.made.values())
                self._made.difference_update(call.written)
        for number in range(len(self._references)):
            if number not in self._made and number not in self.held:
                tensor = self.alive(number)
                if tensor is not None:
                    self.held[number] = tensor

    def _hold_outside(self, call: _Pending, loose: frozenset[int]) -> None:
        for position, number in enumerate(call.numbers):
            if number in self._made or number in self.held or number == _STRANGE:
                continue
            if position not in loose:
                self.held[number] = call.tensors[position]

    def _meet_blanks(self, call: _Pending) -> None:
        """Something that no call wrote to but one reads was written out of sight."""
        self._blank.difference_update(call.written)
        if call.operator.layout_only:
            return
        for tensor, number in zip(call.tensors, call.numbers, strict=True):
            if number in self._blank:
                self._blank.discard(number)
                self._made.discard(number)
                self.held[number] = tensor

    def _new_storages(self, results: list[Tensor]) -> dict[int, tuple[int, int]]:
        made = {}
        for position, tensor in enumerate(results):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._numbers:
                made[position] = (self._register(storage), storage.nbytes())
        return made

    def _keep_original(self, number: int) -> None:
        if number not in self._made and number not in self.before_writes:
            present = self.alive(number)
            assert present is not None
            self.before_writes[number] = present.clone().untyped_storage()

    def _spec(self, value: Any, tensors: list[Tensor], numbers: list[int]) -> Any:
        """Replace tensors by views; note them and the numbers of their storages."""
        if isinstance(value, Tensor):
            number = self.number_of(value) if is_plain(value) else _STRANGE
            tensors.append(value)
            numbers.append(number)
            return View(number, layout_of(value), value.device)
        if isinstance(value, (list, tuple)):
            return [self._spec(item, tensors, numbers) for item in value]
        return value


def _numbers_at(
    places: tuple[tuple[int, str], ...], specs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[int, ...]:
    """Numbers of the storages behind some arguments."""
    found: dict[int, None] = {}
    for position, name in places:
        value = specs[position] if position < len(specs) else named.get(name)
        views = value if isinstance(value, list) else [value]
        found.update((v.number, None) for v in views if isinstance(v, View))
    return tuple(number for number in found if number != _STRANGE)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield tensors in a result, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _draw(kwargs: dict[str, Any], device: torch.device) -> Draw:
    generator = kwargs.get("generator")
    state = generator.get_state() if generator is not None else None
    return Draw(random_state(device), generator, state)
