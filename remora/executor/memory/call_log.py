"""The aten calls of one unit's forward, with storages replaced by numbers.

Nothing here keeps an activation alive that the planner does not hold for a rerun: storages are
known by weak references, whose existence also keeps an address from being used twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from remora.executor.memory.call_records import (
    STRANGE,
    Expected,
    LoggedCall,
    PendingCall,
    View,
    draw_of,
    numbers_at,
    tensors_in,
)
from remora.executor.memory.layout import bytes_of, is_plain, layout_of
from remora.executor.memory.operators import Operator
from remora.schedule.closure import Step

__all__ = ["CallLog"]


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
    ) -> PendingCall:
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
            tensors += tensors_in((args, tuple(kwargs.values())))
            numbers += [self.number_of(t) if is_plain(t) else STRANGE for t in tensors]
        written = numbers_at(operator.written, specs, named) if operator.written else ()
        for number in written:
            self._keep_original(number)
        return PendingCall(
            operator,
            function,
            specs if whole else (),
            named if whole else {},
            tensors,
            numbers,
            written,
            numbers_at(operator.scratch, specs, named) if operator.scratch else (),
            draw_of(kwargs, self._device) if whole and operator.random else None,
            whole,
        )

    def after(self, call: PendingCall, result: Any) -> None:
        """Note that the call returned ``result``."""
        results = [result] if type(result) is Tensor else list(tensors_in(result))
        strange = STRANGE in call.numbers or not all(map(is_plain, results))
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
            reads=tuple(n for n in reads if n != STRANGE and n not in call.scratch),
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

    def _hold_outside(self, call: PendingCall, loose: frozenset[int]) -> None:
        for position, number in enumerate(call.numbers):
            if number in self._made or number in self.held or number == STRANGE:
                continue
            if position not in loose:
                self.held[number] = call.tensors[position]

    def _meet_blanks(self, call: PendingCall) -> None:
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
            number = self.number_of(value) if is_plain(value) else STRANGE
            tensors.append(value)
            numbers.append(number)
            return View(number, layout_of(value), value.device)
        if isinstance(value, (list, tuple)):
            return [self._spec(item, tensors, numbers) for item in value]
        return value
