"""Per-unit tables of a graph: times, storages that cross units, and exact peaks inside a unit.

Everything a schedule decides about happens between units; what happens inside one (temporaries of
its operators, the moment at which a saved tensor is freed) is replayed operator by operator once
per unit kind and remembered.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from remora.graph.model_graph import COLLECTIVES, GRADIENT, ModelGraph, Unit
from remora.schedule.backward_split import BackwardSplit, Half, split_backward
from remora.schedule.costs import CostTable
from remora.schedule.gradient_flow import differentiable_activations, partial_gradients
from remora.schedule.handed_gradients import handed_gradients
from remora.schedule.memory_levels import level_at_ops
from remora.schedule.parameters import StaticStorages
from remora.schedule.rerun_lifetimes import rerun_ends
from remora.schedule.storage_tables import (
    added_at,
    creator_units,
    dropped_at,
    made_by_op,
    readers,
)

_NO_ARRIVALS: Mapping[int, int] = {}
_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SavedStorage:
    """An activation that autograd keeps for the backward of a unit.

    Attributes:
        storage: index into the graph.
        num_bytes: size as the allocator rounds it.
        names: saved tensors that view it.
        packed: number of operators that had run when it was first saved.
        released: number of operators that had run when the backward let go of it.
        created_here: made by the unit itself, not one of its inputs.
    """

    storage: int
    num_bytes: int
    names: tuple[str, ...]
    packed: int
    released: int
    created_here: bool


@dataclass(frozen=True, slots=True)
class ChainUnit:
    """What the planner knows of one unit.

    Attributes:
        index, kind: as in the graph.
        forward_s, backward_s: seconds of its operators.
        rerun_s: seconds of a recomputation, which stops after the last saved tensor.
        stop_op: operator before which a recomputation stops.
        hooks_s: what the host adds if its saved tensors are recomputed or moved.
        inputs: activations of earlier units that its forward reads or saves.
        created: activations its forward makes.
        created_backward: storages its backward makes.
        saved: activations kept for its backward, storages counted once.
        dropped_forward: storages of earlier units that the program lets go of in its forward.
        dropped_backward: storages from before its backward that are let go of in its backward.
        fixed: cannot be recomputed or offloaded.
    """

    index: int
    kind: str
    forward: tuple[int, int]
    backward: tuple[int, int]
    forward_s: float
    backward_s: float
    rerun_s: float
    stop_op: int
    hooks_s: float
    inputs: tuple[int, ...]
    created: tuple[int, ...]
    created_backward: tuple[int, ...]
    saved: tuple[SavedStorage, ...]
    dropped_forward: tuple[int, ...]
    dropped_backward: tuple[int, ...]
    fixed: bool

    @property
    def saved_bytes(self) -> int:
        """Bytes kept for the backward if everything is kept, inputs included."""
        return sum(saved.num_bytes for saved in self.saved)

    @property
    def own_saved_bytes(self) -> int:
        """Bytes kept for the backward that the unit made itself."""
        return sum(saved.num_bytes for saved in self.saved if saved.created_here)


class Chain:
    """Units of one graph with the times of one cost table.

    Args:
        graph: the traced step.
        costs: seconds and workspace of its operators.

    Attributes:
        memo: what other modules of this folder found once per unit kind.
    """

    def __init__(self, graph: ModelGraph, costs: CostTable) -> None:
        self.graph = graph
        self.costs = costs
        self.creator_unit = creator_units(graph)
        self.readers = readers(graph, self.creator_unit)
        self._num_bytes = tuple(self._rounded(s.num_bytes) for s in graph.storages)
        self._made = made_by_op(graph)
        self._dropped = dropped_at(graph)
        added = added_at(graph)
        self._ends = tuple(added.get(n, s.dropped) for n, s in enumerate(graph.storages))
        self._handed = handed_gradients(graph)
        self._collectives = frozenset(
            index for index, op in enumerate(graph.ops) if op.name in COLLECTIVES
        )
        self.units = tuple(self._unit(unit) for unit in graph.units)
        self._peaks: dict[tuple[object, ...], int] = {}
        self._splits: dict[int, BackwardSplit] = {}
        self.memo: dict[tuple[object, ...], Any] = {}

    def _rounded(self, num_bytes: int) -> int:
        granularity = self.costs.allocation_granularity_bytes
        return -(-num_bytes // granularity) * granularity

    def num_bytes(self, storage: int) -> int:
        """Size of a storage as the allocator rounds it."""
        return self._num_bytes[storage]

    def input_bytes(self, index: int) -> int:
        """Bytes of the activations that unit ``index`` reads from earlier units."""
        return sum(self.num_bytes(storage) for storage in self.units[index].inputs)

    def gradient_bytes(self, index: int) -> int:
        """Bytes of parameter gradients that the backward of unit ``index`` makes."""
        storages = self.graph.storages
        made = self.units[index].created_backward
        return sum(self.num_bytes(s) for s in made if storages[s].role == GRADIENT)

    def private_inputs(self, start: int, end: int) -> frozenset[int]:
        """Activations made before unit ``start`` that only units ``start`` to ``end - 1`` read."""
        found = {
            storage
            for index in range(start, end)
            for storage in self.units[index].inputs
            if self.creator_unit[storage] < start
        }
        return frozenset(s for s in found if all(start <= r < end for r in self.readers[s]))

    @cached_property
    def statics(self) -> StaticStorages:
        """Weights, buffers and inputs by unit."""
        return StaticStorages(self.graph, self.costs.allocation_granularity_bytes)

    @cached_property
    def differentiable(self) -> frozenset[int]:
        """Activations whose gradient goes back the way they came."""
        return differentiable_activations(self.graph)

    @cached_property
    def partial_gradients(self) -> Mapping[int, int]:
        """Parts of the gradients of shared weights, and the unit that sums each."""
        return partial_gradients(self.graph)

    def made_by(self, op: int) -> tuple[int, ...]:
        """Storages that an operator makes."""
        return self._made[op]

    def handed(self, storage: int) -> tuple[int, int]:
        """Bytes that earlier units read of a gradient, and the first of them to run."""
        handed = self._handed.get(storage)
        if handed is None:
            return self.num_bytes(storage), len(self.units)
        return min(self._rounded(handed.num_bytes), self.num_bytes(storage)), handed.next_reader

    def handed_bytes(self, storage: int, first_unit: int) -> int:
        """Bytes that are left of a gradient once the unit that made it is done.

        Args:
            storage: made in a backward.
            first_unit: of the stage; units of earlier stages get a copy of what they read.
        """
        num_bytes, next_reader = self.handed(storage)
        return num_bytes if next_reader < first_unit else self.num_bytes(storage)

    def added_at(self, storage: int) -> int:
        """Operator count at which a storage goes that its unit does not leave behind.

        A weight's gradient goes once it is added to that of an earlier micro-batch.
        """
        return self._ends[storage]

    def split(self, index: int) -> BackwardSplit:
        """The halves of a unit's backward."""
        if index not in self._splits:
            unit = self.graph.units[index]
            self._splits[index] = split_backward(self.graph, unit, self.partial_gradients)
        return self._splits[index]

    def rerun_ends(self, index: int) -> Mapping[int, int]:
        """Storages of a unit that die earlier when the whole unit runs again, and when."""
        key = ("rerun ends", index)
        if key not in self.memo:
            self.memo[key] = rerun_ends(self.graph, self.graph.units[index])
        found: Mapping[int, int] = self.memo[key]
        return found

    def collective_s(self, ops: Sequence[int], shares: Sequence[float] | None = None) -> float:
        """Seconds that the ranks that share layers talk to each other.

        Args:
            ops: operators that run.
            shares: part of the time of each that counts; all of it if not given.
        """
        if not self._collectives:
            return 0.0
        times = self.costs.op_time_s
        parts = zip(ops, shares or itertools.repeat(1.0), strict=False)
        return sum(times[op] * share for op, share in parts if op in self._collectives)

    def half_time_s(self, half: Half) -> float:
        """Seconds of one half of a backward."""
        times = self.costs.op_time_s
        return sum(times[op] * share for op, share in zip(half.ops, half.shares, strict=True))

    def transient_bytes(
        self,
        ops: Sequence[int],
        unit: ChainUnit,
        survivors: Collection[int],
        deaths: Collection[tuple[int, int]],
        arrivals: Mapping[int, int] = _NO_ARRIVALS,
        absent: frozenset[int] = _NONE,
        ends: Mapping[int, int] = _NO_ARRIVALS,
    ) -> int:
        """Largest rise of the memory level while operators of ``unit`` run.

        Args:
            ops: operators, ascending, all of the unit's forward or all of its backward.
            unit: the unit they belong to.
            survivors: storages made by them that outlive them; a weight's gradient that is not
                among them is added to an earlier one at once.
            deaths: storages from before them that are freed while they run, and the operator
                count at which they are.
            arrivals: bytes that come up beside them, by operator count.
            absent: storages that they do not make this time.
            ends: operator counts at which storages made by them die that differ from the trace;
                empty, or those of the unit's :meth:`rerun_ends`.
        """
        forward = bool(ops) and ops[0] < unit.forward[1]
        base = unit.forward[0] if forward else unit.backward[0]
        key = (
            unit.kind,
            forward,
            (ops.start - base, ops.stop - base)
            if isinstance(ops, range)
            else tuple(op - base for op in ops),
            frozenset(self._relative(unit, s) for s in survivors),
            tuple(sorted((self.num_bytes(s), d - base) for s, d in deaths)),
            tuple(sorted((count - base, size) for count, size in arrivals.items())),
            frozenset(self._relative(unit, s) for s in absent),
            bool(ends),
        )
        if key not in self._peaks:
            levels = self.levels(ops, survivors, deaths, arrivals, absent, ends)
            self._peaks[key] = max(levels, default=0)
        return max(0, self._peaks[key])

    def _relative(self, unit: ChainUnit, storage: int) -> int:
        created = self.graph.storages[storage].created
        offset = storage - (unit.created[0] if unit.created else 0)
        if created >= unit.backward[0]:
            offset = -1 - (storage - unit.created_backward[0])
        return offset

    def levels(
        self,
        ops: Sequence[int],
        survivors: Collection[int],
        deaths: Collection[tuple[int, int]] = (),
        arrivals: Mapping[int, int] = _NO_ARRIVALS,
        absent: frozenset[int] = _NONE,
        ends: Mapping[int, int] = _NO_ARRIVALS,
    ) -> list[int]:
        """Memory level while each operator runs, over the level before the first.

        The arguments are those of :meth:`transient_bytes`.

        Returns:
            By operator of ``ops``, workspace included; what arrives after the last operator counts
            for it.
        """
        sizes, made, usual = self._num_bytes, self._made, self._ends
        changes = [(death, -sizes[storage]) for storage, death in deaths]
        changes += arrivals.items()
        for op in ops:
            for storage in made[op]:
                if storage in absent:
                    continue
                size = sizes[storage]
                changes.append((op, size))
                if storage not in survivors:
                    end = ends[storage] if storage in ends else usual[storage]
                    changes.append((max(end, op + 1), -size))
        return level_at_ops(ops, changes, self.costs.op_workspace_bytes)

    def _unit(self, unit: Unit) -> ChainUnit:
        times = self.costs.op_time_s
        created = self._made_in(unit.forward)
        backward = self._made_in(unit.backward)
        saved = self._saved(unit)
        read = {
            self.graph.tensors[tensor].storage
            for op in range(*unit.forward)
            for tensor in self.graph.ops[op].inputs
        } | {s.storage for s in saved}
        inputs = sorted(s for s in read if 0 <= self.creator_unit.get(s, -1) < unit.index)
        packed = [s.op for s in unit.saved]
        stop = max(packed, default=unit.forward[0])
        return ChainUnit(
            index=unit.index,
            kind=unit.kind,
            forward=unit.forward,
            backward=unit.backward,
            forward_s=sum(times[slice(*unit.forward)]),
            backward_s=sum(times[slice(*unit.backward)]),
            rerun_s=sum(times[unit.forward[0] : stop]),
            stop_op=stop,
            hooks_s=self.costs.saved_tensor_overhead_s * len(unit.saved),
            inputs=tuple(inputs),
            created=created,
            created_backward=backward,
            saved=saved,
            dropped_forward=self._dropped_in(unit.forward),
            dropped_backward=self._dropped_in(unit.backward),
            fixed=bool(unit.fixed_reason),
        )

    def _made_in(self, span: tuple[int, int]) -> tuple[int, ...]:
        return tuple(s for op in range(*span) for s in self._made[op])

    def _dropped_in(self, span: tuple[int, int]) -> tuple[int, ...]:
        """Storages from before ``span`` that are let go of while it runs."""
        return tuple(
            storage
            for count in range(span[0] + 1, span[1] + 1)
            for storage in self._dropped.get(count, ())
            if self.graph.storages[storage].created < span[0]
        )

    def _saved(self, unit: Unit) -> tuple[SavedStorage, ...]:
        names: dict[int, list[str]] = {}
        packed: dict[int, int] = {}
        released: dict[int, int] = {}
        for saved in unit.saved:
            storage = self.graph.storage_of(saved)
            if self.graph.storages[storage].created >= 0:
                names.setdefault(storage, []).append(saved.name)
                packed.setdefault(storage, saved.op)
                released[storage] = max(released.get(storage, 0), saved.released)
        return tuple(
            SavedStorage(
                storage=storage,
                num_bytes=self.num_bytes(storage),
                names=tuple(views),
                packed=packed[storage],
                released=released[storage],
                created_here=self.creator_unit[storage] == unit.index,
            )
            for storage, views in names.items()
        )
