"""A pass on one rank of a pipeline, as it is compared and measured."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils import _pytree as pytree

from remora.executor.pipeline.passes.rank_passes import RankPasses
from remora.executor.step import storage_bytes
from remora.graph.loss import ExampleInputs

__all__ = ["PipelinePass"]


class PipelinePass:
    """The forwards of one batch.

    Args:
        passes: of this rank.
        micro_batches: of its replica, on the device.
    """

    def __init__(self, passes: RankPasses, micro_batches: Sequence[ExampleInputs]) -> None:
        self._passes = passes
        self._batches = [pytree.tree_leaves(inputs) for inputs in micro_batches]

    def run(self) -> None:
        """Run it; nobody keeps the output."""
        self._passes.example.run(self._batches, lambda micro_batch, results: None)

    def results(self) -> dict[int, tuple[Tensor, ...]]:
        """Run it and return the outputs of every micro-batch that ends on this rank."""
        found: dict[int, tuple[Tensor, ...]] = {}
        self._passes.example.run(self._batches, found.__setitem__)
        return found

    def resident_bytes(self) -> int:
        """Bytes of weights, buffers and batch of this rank; what is on the host does not count."""
        read = self._passes.example.batch_positions
        leaves = [batch[position] for batch in self._batches for position in sorted(read)]
        held = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        own = [*self._passes.parameters.values(), *self._passes.buffers.values()]
        return storage_bytes([*own, *held])
