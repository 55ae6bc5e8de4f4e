"""Bytes of weights, gradients and optimizer state of one rank, by where the schedule puts them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from remora.graph.model_graph import BUFFER, INPUT, PARAMETER
from remora.schedule.parameters import StaticStorage
from remora.schedule.problem import OptimizerSpec
from remora.schedule.schedule import Placement, StatePlan

__all__ = ["StateBytes", "streamed_storages"]

_MASTER_BYTES = 4
_SCALE_BYTES = 4

# As torchao's optimizers keep it, small tensors as they are and others with a table of values.
_QUANTISED_BLOCK = 256
_SMALLEST_QUANTISED = 4096
_VALUE_TABLE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class StateBytes:
    """What one rank keeps for the whole step.

    Attributes:
        statics: weights, buffers and inputs that its units read.
        optimizer: what the optimizer keeps.
        state: placement and sharding.
        replicas: data-parallel replicas.
        streamed: storages of weights that wait on the host.
    """

    statics: Sequence[StaticStorage]
    optimizer: OptimizerSpec
    state: StatePlan
    replicas: int
    streamed: Collection[int]

    @property
    def weights_bytes(self) -> int:
        """Weights and buffers on the device.

        ZeRO 2 keeps its shard beside the weights it gathers once a step; ZeRO 3 its shard alone.
        """
        buffers = sum(e.num_bytes for e in self.statics if e.role == BUFFER)
        weights = [e for e in self.statics if e.role == PARAMETER]
        whole = sum(e.num_bytes for e in weights if e.storage not in self.streamed)
        shard = self._shard(whole)
        return buffers + {2: whole + shard, 3: shard}.get(self.state.zero_stage, whole)

    @property
    def input_bytes(self) -> int:
        """The batch of one micro-batch, as far as its units read it."""
        return sum(e.num_bytes for e in self.statics if e.role == INPUT)

    @property
    def gradient_bytes(self) -> int:
        """Whole gradients of all its trained weights."""
        return sum(e.gradient_bytes for e in self.statics)

    @property
    def optimizer_bytes(self) -> int:
        """Optimizer state on the device."""
        on_host = self.state.optimizer is Placement.HOST
        return 0 if on_host else self._optimizer_state_bytes

    @property
    def host_bytes(self) -> int:
        """Pinned host bytes: weights, gradients and optimizer state that live there.

        An optimizer on the host steps a copy of its own of every weight that stays on the device.
        """
        streamed = sum(e.num_bytes for e in self.statics if e.storage in self.streamed)
        if self.state.optimizer is not Placement.HOST:
            return streamed
        copied = sum(
            e.num_bytes
            for e in self.statics
            if e.gradient_bytes and e.storage not in self.streamed and not self._has_master(e)
        )
        whole_arrive = self.state.gradients is Placement.HOST
        return (
            streamed
            + self._shard(copied, from_stage=1)
            + self._shard(self.gradient_bytes, from_stage=2 if whole_arrive else 1)
            + self._optimizer_state_bytes
        )

    @property
    def temporary_bytes(self) -> int:
        """Largest weight, for temporaries of an optimizer that goes weight by weight."""
        sizes = (e.num_bytes for e in self.statics if e.role == PARAMETER)
        return self._shard(max(sizes, default=0), from_stage=1)

    def _shard(self, num_bytes: int, from_stage: int = 2) -> int:
        sharded = self.state.zero_stage >= from_stage
        return -(-num_bytes // self.replicas) if sharded else num_bytes

    def _has_master(self, entry: StaticStorage) -> bool:
        """Weights that are float32 already need no second copy of themselves."""
        return (
            self.optimizer.master_weights and entry.num_bytes < _MASTER_BYTES * entry.num_elements
        )

    @property
    def _optimizer_state_bytes(self) -> int:
        trained = [e for e in self.statics if e.gradient_bytes]
        copies = self.optimizer.state_per_parameter
        elements = sum(e.num_elements for e in trained)
        if self.state.optimizer is Placement.EIGHT_BIT:
            whole = copies * sum(_eight_bit_bytes(e) for e in trained)
        elif self.optimizer.master_weights:
            short = sum(e.num_elements for e in trained if self._has_master(e))
            whole = _MASTER_BYTES * (copies * elements + short)
        else:
            whole = copies * sum(e.gradient_bytes for e in trained)
        return self._shard(whole, from_stage=1)


def _eight_bit_bytes(entry: StaticStorage) -> int:
    """One state tensor of a weight."""
    elements = entry.num_elements
    if elements < _SMALLEST_QUANTISED or elements % _QUANTISED_BLOCK:
        return entry.gradient_bytes
    return elements + _SCALE_BYTES * (elements // _QUANTISED_BLOCK) + _VALUE_TABLE_BYTES


def streamed_storages(statics: Sequence[StaticStorage], state: StatePlan) -> frozenset[int]:
    """Weights that only streamed units read: a shared one stays on the device."""
    units = frozenset(state.streamed_units)
    return frozenset(e.storage for e in statics if e.role == PARAMETER and e.units <= units)
