"""What every program of one's own on a rank has: where it stands, and batches as planned."""

from __future__ import annotations

import torch

from remora.executor.pipeline.world import World
from remora.graph.batch import matched, on_device, outline_of, split_batch
from remora.graph.loss import ExampleInputs

__all__ = ["OnRank"]


class OnRank:
    """One rank of a run.

    Args:
        world: where this process stands.
        device: where its stages run.
        example_inputs: the batch that was planned for.
        micro_batches: into which one is cut.

    Attributes:
        device: where its stages run.
    """

    def __init__(
        self, world: World, device: torch.device, example_inputs: ExampleInputs, micro_batches: int
    ) -> None:
        self.device = device
        self._world = world
        self._outline = outline_of(example_inputs)
        self._micro_batches = micro_batches

    @property
    def replica(self) -> int:
        """Number of this rank's replica; each gets batches of its own."""
        return self._world.replica

    @property
    def replicas(self) -> int:
        """How many there are."""
        return self._world.replicas

    def _parts_of(self, batch: ExampleInputs) -> list[ExampleInputs]:
        """Micro-batches of a batch, on the device.

        Raises:
            InvalidInputError: it has other names, shapes or values than was planned for.
        """
        here = on_device(matched(self._outline, batch), self.device)
        return split_batch(here, self._micro_batches)
