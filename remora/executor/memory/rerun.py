"""Run some logged calls again, below autograd, to make storages once more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from remora.executor.memory.ambient import random_state
from remora.executor.memory.call_log import CallLog
from remora.executor.memory.call_records import Draw, LoggedCall, View
from remora.schedule.closure import Closure

__all__ = ["Rerun", "StorageSource", "rerun", "rerun_plan"]


class StorageSource(Protocol):
    """Somebody who has a storage on the device, or can get it there."""

    def storage(self) -> torch.UntypedStorage:
        """Return the storage."""
        ...


@dataclass(frozen=True)
class Rerun:
    """The calls to run again and what they find.

    Attributes:
        label: names the unit, for messages.
        closure: which calls, and what they find made again.
        calls: the calls of the closure, by position in the log.
        sources: storages that they find as they are, by number.
        originals: copies of storages from outside as they were before the first write.
        wanted: numbers of the storages to return.
        device: whose random state the calls use.
    """

    label: str
    closure: Closure
    calls: Mapping[int, LoggedCall]
    sources: Mapping[int, StorageSource]
    originals: Mapping[int, torch.UntypedStorage]
    wanted: frozenset[int]
    device: torch.device

    def last_uses(self) -> dict[int, list[int]]:
        """Storages that nobody needs after a call, by its position."""
        last: dict[int, int] = {}
        for position in self.closure.steps:
            made = [number for number, _ in self.calls[position].made.values()]
            last.update(dict.fromkeys((*made, *self.closure.remade[position]), position))
        ending: dict[int, list[int]] = {}
        for number, position in last.items():
            if number not in self.wanted:
                ending.setdefault(position, []).append(number)
        return ending


def rerun_plan(
    label: str,
    log: CallLog,
    closure: Closure,
    sources: Mapping[int, StorageSource],
    wanted: frozenset[int],
    device: torch.device,
) -> Rerun:
    """Keep of a log what the closure needs."""
    return Rerun(
        label=label,
        closure=closure,
        calls={position: log.calls[position] for position in closure.steps},
        sources=sources,
        originals={number: log.before_writes[number] for number in closure.copied},
        wanted=wanted,
        device=device,
    )


def rerun(plan: Rerun) -> dict[int, torch.UntypedStorage]:
    """Run the calls and return the wanted storages by number.

    Random calls run under the random state they had, which is as before afterwards.

    Raises:
        RuntimeError: a call made another amount of memory than at first.
    """
    again: dict[int, torch.UntypedStorage] = {}
    ending = plan.last_uses()
    with torch.no_grad(), _without_autocast(plan.device), _random_state_kept(plan):
        for position in plan.closure.steps:
            _run(plan, position, again)
            for number in ending.get(position, ()):
                del again[number]
    return again


def _run(plan: Rerun, position: int, again: dict[int, torch.UntypedStorage]) -> None:
    call = plan.calls[position]
    remade = plan.closure.remade[position]
    for number in remade:
        if number not in again:
            again[number] = plan.originals[number]

    args = [_value(plan, position, spec, again) for spec in call.args]
    kwargs = {name: _value(plan, position, spec, again) for name, spec in call.kwargs.items()}
    if call.operator.layout_only:
        kwargs["device"] = kwargs.get("device") or call.args[0].device
    with _drawn(call.draw):
        result = call.function(*args, **kwargs)
    del args, kwargs
    results = _flat(result)
    for index, (number, num_bytes) in call.made.items():
        storage = results[index].untyped_storage()
        if storage.nbytes() != num_bytes:
            raise RuntimeError(
                f"recomputing {plan.label} gave {storage.nbytes()} bytes in {call.function} that "
                f"made {num_bytes} at first: the model is not deterministic"
            )
        again[number] = storage


def _value(plan: Rerun, position: int, spec: Any, again: Mapping[int, torch.UntypedStorage]) -> Any:
    """Put tensors in the place of views."""
    if isinstance(spec, list):
        return [_value(plan, position, item, again) for item in spec]
    if not isinstance(spec, View):
        return spec
    call, layout = plan.calls[position], spec.layout
    if call.operator.layout_only:
        # The content need not be there.
        return torch.empty_strided(layout.size, layout.stride, dtype=layout.dtype, device="meta")
    if spec.number in plan.closure.remade[position]:
        return layout.over(again[spec.number])
    tensor = layout.over(plan.sources[spec.number].storage())
    return tensor.clone() if spec.number in call.scratch else tensor


def _flat(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, (list, tuple)):
        return [tensor for item in result for tensor in _flat(item)]
    return []


@contextlib.contextmanager
def _random_state_kept(plan: Rerun) -> Iterator[None]:
    if all(call.draw is None for call in plan.calls.values()):
        yield
        return
    before = random_state(plan.device)
    try:
        yield
    finally:
        before.restore()


@contextlib.contextmanager
def _drawn(draw: Draw | None) -> Iterator[None]:
    """Run under the random state of the first run."""
    if draw is None:
        yield
        return
    if draw.generator is None or draw.state is None:
        draw.default.restore()
        yield
        return
    before = draw.generator.get_state()
    draw.generator.set_state(draw.state)
    try:
        yield
    finally:
        draw.generator.set_state(before)


@contextlib.contextmanager
def _without_autocast(device: torch.device) -> Iterator[None]:
    """Casts are among the logged calls already."""
    with contextlib.ExitStack() as stack:
        for kind in {"cpu", device.type}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
