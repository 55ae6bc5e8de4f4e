"""A schedule lowered to instructions with dependencies, allocations and releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Stream(StrEnum):
    """In-order queues of one rank.

    Ranks that share layers and replicas are process groups of their own, each with its queue, so
    their collectives do not wait for each other.
    """

    COMPUTE = "compute"
    D2H = "d2h"
    H2D = "h2d"
    SEND = "send"
    RECV = "recv"
    COLLECTIVE = "collective"
    TENSOR = "tensor"


class InstructionKind(StrEnum):
    """What an instruction does."""

    FORWARD = "forward"
    RESTORE = "restore"
    RECOMPUTE = "recompute"
    BACKWARD = "backward"
    BACKWARD_INPUT = "backward_input"
    BACKWARD_WEIGHT = "backward_weight"
    OFFLOAD = "offload"
    PREFETCH = "prefetch"
    SEND = "send"
    RECEIVE = "receive"
    LOAD_WEIGHTS = "load_weights"
    STORE_CACHE = "store_cache"
    STORE_GRADIENTS = "store_gradients"
    GATHER_WEIGHTS = "gather_weights"
    REDUCE_GRADIENTS = "reduce_gradients"
    SHARE_LAYERS = "share_layers"
    OPTIMIZER = "optimizer"


class MemoryKind(StrEnum):
    """Kinds of device memory that a breakdown tells apart."""

    WEIGHTS = "weights"
    CACHE = "cache"
    BATCH = "batch"
    OPTIMIZER = "optimizer"
    GRADIENTS = "gradients"
    SAVED = "saved"
    BOUNDARY = "boundary"
    RECEIVE = "receive"
    IN_FLIGHT = "in_flight"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Buffer:
    """A block of device memory that outlives the instruction that allocates it."""

    num_bytes: int
    kind: MemoryKind


@dataclass(frozen=True, slots=True)
class Instruction:
    """One piece of work of one stream of one rank.

    Memory changes only on the compute stream: ``early_releases`` and ``early_allocates`` when the
    instruction starts, ``allocates`` and ``releases`` while it runs. ``transient_bytes`` is the
    largest amount by which the level rises above that after the early changes, results included.

    Attributes:
        kind: what it does.
        rank: which rank it runs on.
        stream: which stream of the rank.
        unit: unit it belongs to; -1 for what belongs to a whole stage or rank.
        micro_batch: which micro-batch; -1 for what belongs to the whole step.
        stage: pipeline stage it belongs to; -1 for what belongs to the whole rank.
        duration_s: seconds it takes once started.
        waits: indices of instructions that must have ended before it starts.
        early_releases, early_allocates, allocates, releases: indices of buffers.
        transient_bytes: see above.
        host_bytes: pinned host bytes taken (positive) or given back (negative) when it ends.
        collective_s: the part of a compute instruction's seconds in which the ranks that share
            layers talk to each other; its next operator needs the answer, so they do not overlap.
    """

    kind: InstructionKind
    rank: int
    stream: Stream
    unit: int
    micro_batch: int
    duration_s: float
    waits: tuple[int, ...] = ()
    early_releases: tuple[int, ...] = ()
    early_allocates: tuple[int, ...] = ()
    allocates: tuple[int, ...] = ()
    releases: tuple[int, ...] = ()
    transient_bytes: int = 0
    host_bytes: int = 0
    stage: int = 0
    collective_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions in an order in which every stream of every rank issues them.

    Attributes:
        instructions: an instruction waits only for earlier ones.
        buffers: all buffers, by index.
        resident_bytes: memory of each rank that lasts the whole step, by kind.  # [num_ranks]
        host_bytes: pinned host bytes of each rank that last the whole step.  # [num_ranks]
    """

    instructions: tuple[Instruction, ...]
    buffers: tuple[Buffer, ...]
    resident_bytes: tuple[Mapping[MemoryKind, int], ...]
    host_bytes: tuple[int, ...]

    @property
    def num_ranks(self) -> int:
        """Number of ranks."""
        return len(self.resident_bytes)
