"""One forward of the root model under a memory plan: where units begin, what is recorded."""

from __future__ import annotations

import bisect
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from remora.executor.memory.ambient import current_ambient, random_state
from remora.executor.memory.buffers import BufferSlot, snapshot, storages_of
from remora.executor.memory.call_log import CallLog
from remora.executor.memory.call_recorder import CallRecorder
from remora.executor.memory.nesting import output_leaves
from remora.executor.memory.offload import (
    ForwardClock,
    OffloadedTensor,
    OffloadTimeline,
    WatchedHandle,
)
from remora.executor.memory.partial import PartialHandle, PartialUnit
from remora.executor.memory.plan import RegionSpec, RuntimePlan
from remora.executor.memory.region import Region, Replay, SavedHandle
from remora.executor.memory.tape import HeldTensor, Tape, flatten
from remora.schedule.schedule import Action

__all__ = ["ForwardPass", "Function", "unpack"]

Function = Callable[..., Any]
Packed = Tensor | SavedHandle | OffloadedTensor | PartialHandle | WatchedHandle


class ForwardPass:
    """State of one forward; its backward needs none of it but what autograd's handles hold.

    Args:
        plan: what happens to which unit.
        slots: buffers that each unit of the model changes.  # [num_units]
        device: of the model.
        clock: counts the forwards of units on the rank.
        timeline: program points of the host copies.
        replay: runs a region again.
        recorder: shows the calls of units that recompute a part; None if there are none.
        errors: receives the compression errors of saved tensors by name.
    """

    def __init__(
        self,
        plan: RuntimePlan,
        slots: tuple[tuple[BufferSlot, ...], ...],
        device: torch.device,
        clock: ForwardClock,
        timeline: OffloadTimeline,
        replay: Replay,
        recorder: CallRecorder | None,
        errors: dict[str, float],
    ) -> None:
        self._plan = plan
        self._slots = slots
        self._device = device
        self._clock = clock
        self._timeline = timeline
        self._replay = replay
        self._recorder = recorder
        self._errors = errors
        self._partial: PartialUnit | None = None
        self._unit = plan.start - 1
        self._packed = 0
        self._tape = Tape()
        self._open: list[tuple[RegionSpec, Region]] = []
        self._first_sequence: list[int] = []

    @property
    def recording(self) -> bool:
        """Whether calls that run now belong to a region."""
        return bool(self._open)

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Hooks for the whole forward, as far as units outside of regions need them."""
        if not self._plan.packs:
            yield
            return
        if self._recorder is not None:
            self._recorder.begin_forward()
        try:
            with saved_tensors_hooks(self._pack_outside, unpack):
                yield
        finally:
            if self._recorder is not None:
                self._recorder.stop()

    def enter_unit(self, unit: int, arguments: Any = ()) -> None:
        """Note that ``unit`` begins; the plan's ``end`` stands for the end of the forward.

        Args:
            unit: index.
            arguments: of the call that begins it; its tensors come out of the unit before.

        Raises:
            RuntimeError: units come in another order than in the trace, or one of them changed an
                input in place.
        """
        if unit <= self._unit:
            raise RuntimeError(
                f"unit {self._plan.unit_names[unit]!r} began after a later one: the model does "
                "not run as it was traced"
            )
        if self._plan.follows_units and unit > self._plan.start:
            self._timeline.watch(_tensors(arguments), unit - 1)
        for index in range(self._unit + 1, unit + 1):
            self._cross_border(index)

    def finish(self, output: Any) -> None:
        """Note that the forward of the root model or stage returned ``output``."""
        self.enter_unit(self._plan.end)
        if self._plan.follows_units:
            self._timeline.watch(_tensors(output), self._plan.last_inner_unit)

    def record(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        again: Function | None = None,
    ) -> Any:
        """Run a call of a region and write it down.

        A call that returns no tensor and changes none cannot matter to a replay and is left out.

        Args:
            function: what runs now.
            args: its positional arguments.
            kwargs: its keyword arguments.
            again: what runs in a replay; None for the same.
        """
        arguments = flatten(args, kwargs)
        ambient = current_ambient(self._device.type)
        with saved_tensors_hooks(self._packer(), unpack):
            output = function(*args, **kwargs)
        if arguments.changed() or _tensors(output):
            self._tape.append(again or function, arguments, output, self._unit, ambient)
        return output

    def note_seed(self, plant: Callable[[int], None], seed: int) -> None:
        """Let a replay of the running regions plant a seed where the forward has just done so."""
        if self._open:
            ambient = current_ambient(self._device.type)
            self._tape.append(plant, flatten((seed,), {}), None, self._unit, ambient)

    def _cross_border(self, unit: int) -> None:
        """End unit ``unit - 1`` and begin ``unit``."""
        if self._open:
            self._check_inputs()
            self._offload_inputs()
        while self._open and self._open[-1][0].end == unit:
            self._open.pop()[1].close()
        self._close_partial()
        self._unit = unit
        self._packed = 0
        if unit == self._plan.end:
            return
        self._clock.start_forward()
        if self._timeline.points is not None:
            self._timeline.points.forward(unit)
        self._first_sequence.append(torch._C._autograd._get_sequence_nr())
        for spec in self._plan.starting.get(unit, ()):
            self._open_region(spec)
        if unit in self._plan.partial:
            self._open_partial(unit)

    def _open_region(self, spec: RegionSpec) -> None:
        if not self._open:
            self._tape = Tape()
        points = self._timeline.points
        slots = tuple(slot for unit in range(spec.start, spec.end) for slot in self._slots[unit])
        region = Region(
            label=spec.label,
            tape=self._tape,
            parent=self._open[-1][1] if self._open else None,
            random=random_state(self._device),
            buffers=snapshot(slots),
            slots=slots,
            replay=self._replay,
            fill=functools.partial(points.fill, spec) if points is not None else None,
        )
        self._open.append((spec, region))

    def _open_partial(self, unit: int) -> None:
        spec = self._plan.partial[unit]
        log = CallLog(spec.expected, self._device)
        self._partial = PartialUnit(
            spec.label,
            unit,
            self._timeline,
            log,
            self._device,
            self._errors,
            storages_of(self._slots[unit]),
        )
        if spec.recomputes and self._recorder is not None:
            self._recorder.start(log)

    def _close_partial(self) -> None:
        if self._partial is None:
            return
        if self._recorder is not None:
            self._recorder.stop()
        self._partial.close()
        self._partial = None

    def _check_inputs(self) -> None:
        if any(value.changed for value in self._tape.inputs.values()):
            raise RuntimeError(
                f"unit {self._plan.unit_names[self._unit]!r} changes a tensor in place that was "
                "made before its region, so it cannot be recomputed"
            )

    def _offload_inputs(self) -> None:
        """After a region's first unit, send the inputs that only the region reads to the host."""
        spec = self._open[0][0]
        if self._unit != spec.start or not spec.offloaded_inputs:
            return
        for number, held in self._tape.inputs.items():
            if isinstance(held, HeldTensor) and self._key(held) in spec.offloaded_inputs:
                self._tape.inputs[number] = self._timeline.offload(
                    held.tensor, self._unit, spec.end - 1
                )

    def _key(self, held: HeldTensor) -> tuple[int, int]:
        position = bisect.bisect_right(self._first_sequence, held.sequence) - 1
        return self._plan.start + position, held.tensor.untyped_storage().nbytes()

    def _packer(self) -> Callable[[Tensor], Packed]:
        """Make the pack hook of one call of the innermost region."""
        region, timeline, unit = self._open[-1][1], self._timeline, self._unit
        call = len(self._tape.calls)
        count = 0

        def pack(tensor: Tensor) -> Packed:
            nonlocal count
            position, count = count, count + 1
            return timeline.watched(region.handle(call, position, tensor), unit)

        return pack

    def _pack_outside(self, tensor: Tensor) -> Packed:
        """Pack a tensor that no region recomputes."""
        return self._timeline.watched(self._packed_outside(tensor), self._unit)

    def _packed_outside(self, tensor: Tensor) -> Packed:
        index, self._packed = self._packed, self._packed + 1
        if self._partial is not None:
            return self._pack_partial(self._partial, tensor, index)
        if index in self._plan.offloaded.get(self._unit, ()):
            return self._timeline.offload(tensor, self._unit, self._unit)
        # As it is, the result of a node would hold the node that holds it.
        return tensor.detach()

    def _pack_partial(self, partial: PartialUnit, tensor: Tensor, index: int) -> Packed:
        spec = self._plan.partial[self._unit]
        # A model that does not run as it was traced may save more.
        known = index < len(spec.actions)
        action, name = (spec.actions[index], spec.names[index]) if known else (Action.KEEP, "")
        with self._recorder.paused() if self._recorder is not None else contextlib.nullcontext():
            return partial.pack(tensor, action, name)


def unpack(packed: Packed) -> Tensor:
    """Return the tensor behind what autograd was given."""
    return packed if isinstance(packed, Tensor) else packed.open()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in output_leaves(tree) if isinstance(leaf, Tensor)]
