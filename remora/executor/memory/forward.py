"""One forward of the root model under a memory plan: where units begin, what is recorded."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree as pytree

from remora.executor.memory.ambient import current_ambient, random_state
from remora.executor.memory.buffers import BufferSlot, snapshot
from remora.executor.memory.glue import Function, GlueMode, changes_in_place, returns_tensor
from remora.executor.memory.mover import Mover
from remora.executor.memory.offload import OffloadedTensor, OffloadTimeline
from remora.executor.memory.plan import RegionSpec, RuntimePlan
from remora.executor.memory.region import Region, SavedHandle
from remora.executor.memory.tape import Tape

__all__ = ["ForwardPass"]

Packed = Tensor | SavedHandle | OffloadedTensor


class ForwardPass:
    """State of one forward; the backward needs none of it but what autograd's handles hold.

    Args:
        plan: what happens to which unit.
        slots: buffers that each unit changes.  # [num_units]
        device: of the model.
        mover: copies to and from the host.
        replay: runs a region again.
    """

    def __init__(
        self,
        plan: RuntimePlan,
        slots: tuple[tuple[BufferSlot, ...], ...],
        device: torch.device,
        mover: Mover,
        replay: Callable[[Region], None],
    ) -> None:
        self._plan = plan
        self._slots = slots
        self._device = device
        self._replay = replay
        self._calls: Counter[int] = Counter()
        self._unit = -1
        self._unit_starts: list[int] = []
        self._packed_in_unit = 0
        self._open: list[tuple[RegionSpec, Region]] = []
        self._tape = Tape()
        self._glue = GlueMode(self._run_glue)
        self._timeline = OffloadTimeline(mover, plan.num_units, plan.window, plan.distance)

    def run_root(self, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the root model's own forward."""
        with contextlib.ExitStack() as stack:
            if self._plan.regions:
                stack.enter_context(self._glue)
            if self._plan.offloads:
                stack.enter_context(saved_tensors_hooks(self._pack_outside, unpack))
            self.enter_unit(0, ())
            output = forward(*args, **kwargs)
            with self._glue.paused():
                self._advance(self._plan.num_units)
        if self._plan.offloads:
            self._timeline.watch(_tensors(output), self._plan.num_units - 1)
        return output
