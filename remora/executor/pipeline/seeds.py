"""Random numbers of a step that do not depend on the order in which stages and ranks run."""

from __future__ import annotations

import hashlib
import struct

import torch

from remora.graph.model_graph import ModelGraph

__all__ = ["UnitSeeds"]


class UnitSeeds:
    """A seed for every unit, micro-batch, replica and step.

    Only units that draw random numbers get one: planting a seed takes time.

    Args:
        graph: of one micro-batch.
        seed: of the whole training.
        replica: number of the data-parallel replica.

    Attributes:
        step: number of the training step.
    """

    def __init__(self, graph: ModelGraph, seed: int, replica: int = 0) -> None:
        self.step = 0
        self._seed = seed
        self._replica = replica
        self._random = frozenset(op.unit for op in graph.ops if op.random)

    def of(self, unit: int, micro_batch: int) -> int | None:
        """Seed of a unit for a micro-batch; None if the unit draws nothing."""
        if unit not in self._random:
            return None
        words = struct.pack("<5q", self._seed, self.step, self._replica, micro_batch, unit)
        digest = hashlib.blake2b(words, digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    @staticmethod
    def plant(seed: int) -> None:
        """Make ``seed`` that of the generators of the CPU and of every CUDA device."""
        torch.manual_seed(seed)
