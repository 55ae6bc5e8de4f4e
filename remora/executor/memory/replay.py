"""Run a region again from its tape, to fill the handles that autograd still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from remora.executor.memory.ambient import random_state_of, under
from remora.executor.memory.buffers import replay_buffers
from remora.executor.memory.nesting import output_leaves
from remora.executor.memory.region import Region, SavedHandle
from remora.executor.memory.tape import arguments, hold
from remora.executor.timeline.event_log import SILENT, EventLog
from remora.schedule.program import InstructionKind

__all__ = ["replay"]


class _Enough(BaseException):
    """Ends a replay: every handle is filled. No ``except Exception`` of a model catches it."""


def replay(region: Region, device: torch.device, log: EventLog = SILENT) -> None:
    """Fill the living handles of ``region`` and hand the regions inside it their inputs.

    Calls run in order under the random state and modes of the first run, on copies of the buffers
    they change. Values are dropped after their last use. The replay ends as soon as nothing is
    wanted any more, so a nested region at the end does not run.

    Args:
        region: has its inputs; they are released.
        device: whose random state the calls use.
        log: told which units run again.

    Raises:
        RuntimeError: the calls did not repeat what they did at first.
    """
    wanted = region.wanted()
    children = region.waiting_children()
    inputs, region.inputs = region.inputs or {}, None
    if not wanted and not children:
        return
    begin_unit = region.fill() if region.fill is not None else None
    values = {number: held.open() for number, held in inputs.items()}
    del inputs
    with (
        random_state_of(region.random, device),
        replay_buffers(region.slots, region.buffers),
        torch.enable_grad(),
        log.again(InstructionKind.RECOMPUTE) as turn_to,
    ):
        begins = [turn_to] if begin_unit is None else [turn_to, begin_unit]
        _run(region, values, wanted, children, begins)


def _run(
    region: Region,
    values: dict[int, Tensor],
    wanted: Mapping[int, Mapping[int, SavedHandle]],
    children: Mapping[int, Region],
    begins: Sequence[Callable[[int], None]],
) -> None:
    """Run calls up to the last that somebody needs; ``values`` holds the inputs.

    ``begins`` are called where a unit begins.
    """
    needs = {first: _needs(child) for first, child in children.items()}
    end = max([call + 1 for call in wanted] + list(children))
    expiring = _expiring(region, end, needs, values)
    unit = -1
    for index in range(region.first_call, end + 1):
        _drop(values, expiring.get(index - 1, []))
        if index in children:
            children[index].inputs = {number: hold(values[number]) for number in needs[index]}
        if index < end:
            if region.tape.calls[index].unit != unit:
                unit = region.tape.calls[index].unit
                for begin in begins:
                    begin(unit)
            enough = index == end - 1 and end not in children
            _run_call(region, index, values, wanted.get(index, {}), enough)


def _expiring(
    region: Region,
    end: int,
    needs: Mapping[int, frozenset[int]],
    values: Mapping[int, Tensor],
) -> dict[int, list[int]]:
    """Values by the call after which nobody needs them; inputs nobody reads expire at once."""
    last = dict.fromkeys(values, region.first_call - 1)
    last.update(region.tape.last_reads(region.first_call, end))
    for first, numbers in needs.items():
        last.update({number: max(first, last.get(number, first)) for number in numbers})
    expiring: dict[int, list[int]] = {}
    for number, index in last.items():
        expiring.setdefault(index, []).append(number)
    return expiring


def _drop(values: dict[int, Tensor], numbers: list[int]) -> None:
    for number in numbers:
        values.pop(number, None)


def _needs(child: Region) -> frozenset[int]:
    return child.tape.inputs_of(child.first_call, child.end_call)


def _run_call(
    region: Region,
    index: int,
    values: dict[int, Tensor],
    wanted: Mapping[int, SavedHandle],
    enough: bool,
) -> None:
    """Run one call and store its results; ``enough`` ends it when ``wanted`` is filled."""
    call = region.tape.calls[index]
    filler = _Filler(wanted, enough)
    args, kwargs = arguments(call, values)
    with under(call.ambient), saved_tensors_hooks(filler, _never_unpacked):
        try:
            output = call.function(*args, **kwargs)
        except _Enough:
            return
    if filler.missing:
        raise RuntimeError(
            f"recomputing {region.label} saved {filler.count} tensors in a call that saved more "
            "at first: the model is not deterministic"
        )
    for number, leaf in zip(call.outputs, output_leaves(output), strict=False):
        if number is not None:
            values[number] = leaf


class _Filler:
    """Pack hook of a replay: fills the handles that are wanted, by position, drops the rest."""

    def __init__(self, wanted: Mapping[int, SavedHandle], enough: bool) -> None:
        self.count = 0
        self.missing = dict(wanted)
        self._enough = enough

    def __call__(self, tensor: Tensor) -> None:
        handle = self.missing.pop(self.count, None)
        self.count += 1
        if handle is not None:
            handle.fill(tensor)
        if self._enough and not self.missing:
            raise _Enough


def _never_unpacked(packed: None) -> Tensor:
    raise RuntimeError("a replay's own graph has no backward")
