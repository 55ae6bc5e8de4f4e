"""What a span of units takes as a stage of a pipeline, whatever is decided about its units.

What earlier stages made lies in receive buffers, which last the whole step, as do gradients that
come back; what later stages read is held until the backward. See :mod:`.intervals` for letters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.envs.backward_base import BackwardBase
from remora.envs.intervals import (
    add_exports,
    add_imports,
    add_present,
    largest_inside,
    new_table,
)
from remora.envs.levels import UnitLevels
from remora.envs.storages import CrossingStorages
from remora.graph.model_graph import GRADIENT, INPUT
from remora.schedule.chain import Chain, ChainUnit
from remora.schedule.schedule import UnitOption
from remora.schedule.stage import unit_plan

__all__ = ["stage_base", "stage_spans"]

Ints = NDArray[np.int64]


def stage_base(
    chain: Chain, storages: CrossingStorages, gradients: Ints, levels: UnitLevels
) -> BackwardBase:
    """As :func:`.backward_base`, with all gradients of the stage's weights counted apart.

    Args:
        chain: the units.
        storages: what crosses units.
        gradients: bytes of gradients of weights that the backward of each unit completes.  # [n]
        levels: rises.
    """
    new = np.array([levels.backward(unit, gradients_stay=True) for unit in chain.units])
    added = np.array([levels.backward(unit, gradients_stay=False) for unit in chain.units])
    before = storages.passed_gradients + storages.late
    return BackwardBase(0, before, before + np.maximum(new - gradients, added))


def stage_spans(
    chain: Chain,
    storages: CrossingStorages,
    base: BackwardBase,
    levels: UnitLevels,
    menus: Sequence[Sequence[UnitOption]],
) -> Ints:
    """Tables of one micro-batch, columns BATCH to HALVES of :mod:`.columns`.

    Bytes of its inputs, of activations received, of gradients received from every reader or, at
    the least, once, of gradients sent, of what is there between the halves of a backward (what
    later stages read apart), and the largest rise above that. All are upper bounds.

    Args:
        chain: the units.
        storages: what crosses units.
        base: of the backwards.
        levels: rises.
        menus: options of every unit.

    Returns:
        # [n + 1][n + 1][columns]
    """
    n = len(chain.units)
    batch, received, returned, once = (new_table(n) for _ in range(4))
    for entry in chain.statics.all:
        if entry.role == INPUT:
            add_present(batch, entry.units, entry.num_bytes)
    for storage, number in storages.number.items():
        maker, size = int(storages.maker[number]), int(storages.size[number])
        readers = [r for r in sorted(chain.readers.get(storage, ())) if r > maker]
        add_imports(received, maker, readers, size)
        if readers and storage in chain.differentiable:
            add_exports(once, maker, readers[-1], size)
            for reader in readers:
                add_exports(returned, maker, reader, size)
    rises = [
        _rise(chain, levels, unit, menu) + int(base.before[unit.index])
        for unit, menu in zip(chain.units, menus, strict=True)
    ]
    tables = (batch, received, returned, once, _sent(chain), _restored(chain, storages, levels))
    return np.stack((*tables, largest_inside(rises)), axis=2)


def _sent(chain: Chain) -> Ints:
    """Gradients that units of a span make for earlier ones."""
    table = new_table(len(chain.units))
    ends = {s: u.index for u in chain.units for s in u.dropped_backward}
    for unit in chain.units:
        for storage in unit.created_backward:
            record = chain.graph.storages[storage]
            if record.role != GRADIENT and record.dropped > unit.backward[1]:
                first = max(ends.get(storage, -1), -1) + 1
                table[first : unit.index + 1, unit.index + 1 :] += chain.num_bytes(storage)
    table[0] = 0
    return table


def _restored(chain: Chain, storages: CrossingStorages, levels: UnitLevels) -> Ints:
    """All that units saved or read, once for each of them, and what waits for the second half."""
    table = new_table(len(chain.units))
    for unit in chain.units:
        saved = [entry.storage for entry in unit.saved]
        carried = sum(chain.num_bytes(s) for s in chain.split(unit.index).carried)
        add_present(table, [unit.index], levels.inside_bytes(saved) + carried)
        for storage in {*saved, *unit.inputs}:
            if storage in storages.number:
                number = storages.number[storage]
                maker, size = int(storages.maker[number]), int(storages.size[number])
                table[: maker + 1, unit.index + 1 :] += size
    return table


def _rise(chain: Chain, levels: UnitLevels, unit: ChainUnit, menu: Sequence[UnitOption]) -> int:
    """The largest rise of a rerun or of a half of the backward."""
    split = chain.split(unit.index)
    rises = [0]
    for half in (split.inputs, split.weights):
        if half.ops:
            made = [s for op in half.ops for s in chain.made_by(op) if s not in half.absent]
            rises.append(chain.transient_bytes(half.ops, unit, made, (), absent=half.absent))
    if not unit.fixed:
        for keep, stop in ((True, False), (True, True), (False, False)):
            rises.append(levels.rerun(unit, keep, stop))
    for option in menu:
        rerun = unit_plan(chain, unit.index, option).rerun
        if rerun is not None:
            rises.append(rerun.transient_bytes)
    return max(rises)
