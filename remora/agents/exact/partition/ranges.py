"""What a stage takes that holds the units ``[a, b)``, for every such range, as tables.

All tables are indexed ``[a, b]`` and are 0 where the range is empty. Shapes: L = units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.graph.model_graph import INPUT, PARAMETER
from remora.schedule.chain import Chain, ChainUnit
from remora.schedule.parameters import StaticStorage
from remora.schedule.problem import OptimizerSpec, Problem
from remora.schedule.schedule import StatePlan
from remora.schedule.state_bytes import StateBytes

__all__ = ["RangeTables", "range_tables"]

Floats = NDArray[np.float64]
_Item = tuple[Iterable[int], int]
"""Units that need something, and its bytes."""


@dataclass(frozen=True, eq=False)
class RangeTables:
    """Seconds and bytes of all ranges of units at one number of micro-batches.

    Attributes:
        seconds: forward and backward of one micro-batch, everything kept.  # [L + 1, L + 1]
        state_bytes: weights, gradients, optimizer state and buffers.  # [L + 1, L + 1]
        step_bytes: temporaries of the optimizer step, when no activation is held.
            # [L + 1, L + 1]
        pass_bytes: batch and receive buffers of one micro-batch.  # [L + 1, L + 1]
        work_bytes: what the backward of some unit takes beyond what is held.  # [L + 1, L + 1]
        arriving_bytes: activations of one micro-batch that come from earlier units.
            # [L + 1, L + 1]
        returning_bytes: gradients of one micro-batch that come from later units; one that several
            later stages send counts once.  # [L + 1, L + 1]
    """

    seconds: Floats
    state_bytes: Floats
    step_bytes: Floats
    pass_bytes: Floats
    work_bytes: Floats
    arriving_bytes: Floats
    returning_bytes: Floats

    @property
    def num_units(self) -> int:
        """Units of the chain, L."""
        return len(self.seconds) - 1


def range_tables(problem: Problem, micro_batches: int) -> RangeTables:
    """Tables of one problem with all state on the device, unsharded."""
    chain = problem.chains[micro_batches]
    statics = chain.statics.all
    size = len(chain.units)
    batch = [(e.units, e.num_bytes) for e in statics if e.role == INPUT]
    state = [(e.units, _state_bytes(e, problem.optimizer)) for e in statics if e.role != INPUT]
    arriving = _arriving(chain)
    returning = _returning(chain)
    return RangeTables(
        seconds=_sums([unit.forward_s + unit.backward_s for unit in chain.units]),
        state_bytes=_needed_once(state, size),
        step_bytes=_step_bytes(problem, statics, size),
        pass_bytes=_needed_once(batch, size) + arriving + returning,
        work_bytes=_largest([_work_bytes(chain, unit) for unit in chain.units]),
        arriving_bytes=arriving,
        returning_bytes=returning,
    )


def _state_bytes(entry: StaticStorage, optimizer: OptimizerSpec) -> int:
    state = StateBytes((entry,), optimizer, StatePlan(), 1, ())
    return state.weights_bytes + state.gradient_bytes + state.optimizer_bytes


def _step_bytes(problem: Problem, statics: Iterable[StaticStorage], size: int) -> Floats:
    """On CUDA the optimizer steps all weights at once, elsewhere one by one."""
    spec = problem.optimizer
    weights = [e for e in statics if e.role == PARAMETER]
    if not spec.step_temporaries:
        return np.zeros((size + 1, size + 1))
    if problem.hardware.device_type == "cuda":
        return _needed_once([(e.units, e.gradient_bytes) for e in weights], size)
    largest = [0.0] * size
    for entry in weights:
        for unit in entry.units:
            largest[unit] = max(largest[unit], spec.step_temporaries * entry.num_bytes)
    return _largest(largest)


def _work_bytes(chain: Chain, unit: ChainUnit) -> float:
    """What the backward makes, and what comes back for it if the unit kept as little as it can."""
    start, end = unit.backward
    storages = chain.graph.storages
    survivors = frozenset(s for s in unit.created_backward if storages[s].dropped > end)
    deaths = [(saved.storage, saved.released) for saved in unit.saved]
    rise = chain.transient_bytes(range(start, end), unit, survivors, deaths)
    again = 0 if unit.fixed else unit.saved_bytes - chain.input_bytes(unit.index)
    return float(rise + max(0, again))


def _arriving(chain: Chain) -> Floats:
    """A range receives what it reads of units before it, each storage once."""
    table = np.zeros((len(chain.units) + 1, len(chain.units) + 1))
    for storage, maker in chain.creator_unit.items():
        before = maker
        for reader in sorted(chain.readers[storage]):
            table[before + 1 : reader + 1, reader + 1 :] += chain.num_bytes(storage)
            before = max(before, reader)
    return table


def _returning(chain: Chain) -> Floats:
    """A range receives a gradient of what it makes for units after it."""
    table = np.zeros((len(chain.units) + 1, len(chain.units) + 1))
    for storage in chain.differentiable:
        maker = chain.creator_unit.get(storage, -1)
        last = max(chain.readers.get(storage, ()), default=-1)
        if 0 <= maker < last:
            table[: maker + 1, maker + 1 : last + 1] += chain.num_bytes(storage)
    return table


def _needed_once(items: Iterable[_Item], size: int) -> Floats:
    """Bytes of the items that some unit of a range needs, each counted once."""
    table = np.zeros((size + 1, size + 1))
    for units, num_bytes in items:
        before = -1
        for unit in sorted(units):
            # Ranges that begin after the unit before this one meet the item here first.
            table[before + 1 : unit + 1, unit + 1 :] += num_bytes
            before = unit
    return table


def _sums(values: Iterable[float]) -> Floats:
    done = np.concatenate([[0.0], np.cumsum(list(values))])  # [L + 1]
    return np.triu(done[None, :] - done[:, None])


def _largest(values: list[float]) -> Floats:
    size = len(values)
    table = np.zeros((size + 1, size + 1))
    for start in range(size):
        table[start, start + 1 :] = np.maximum.accumulate(values[start:])
    return table
