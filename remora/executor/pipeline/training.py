"""A training step on one rank of a pipeline, as it is compared and measured."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from remora.executor.pipeline.rank_pipeline import RankPipeline
from remora.executor.step import make_optimizer, storage_bytes
from remora.graph.loss import ExampleInputs

__all__ = ["PipelineStep"]


class PipelineStep:
    """Forwards, backwards, optimizer step, gradients set to None.

    Args:
        pipeline: of this rank.
        micro_batches: used for every step.
        optimizer_name: see :func:`remora.executor.step.make_optimizer`.
    """

    def __init__(
        self,
        pipeline: RankPipeline,
        micro_batches: Sequence[ExampleInputs],
        optimizer_name: str,
    ) -> None:
        self._pipeline = pipeline
        self._micro_batches = micro_batches
        self._weights = nn.ParameterList(pipeline.parameters.values())
        self._optimizer = make_optimizer(self._weights, optimizer_name, pipeline.replicas)
        self._step = 0

    def run(self) -> None:
        """Run one step; random operators draw anew in every step."""
        self._pipeline.run(self._micro_batches, self._step)
        self._step += 1
        if self._optimizer is not None:
            self._optimizer.step()
        self._weights.zero_grad(set_to_none=True)

    def resident_bytes(self) -> int:
        """Bytes of weights, buffers, batch, receive buffers and optimizer state of this rank.

        What is on the host does not count.
        """
        on_host = self._pipeline.replicas.optimizer_on_host
        kept = None if on_host else self._optimizer
        state = kept.state.values() if kept is not None else ()
        read = self._pipeline.batch_positions()
        leaves = [
            leaf
            for inputs in self._micro_batches
            for position, leaf in enumerate(pytree.tree_leaves(inputs))
            if position in read
        ]
        held = pytree.tree_leaves((leaves, list(state)))
        tensors = [leaf for leaf in held if isinstance(leaf, Tensor)]
        own = [*self._weights, *self._pipeline.buffers.values()]
        return storage_bytes([*own, *tensors]) + self._pipeline.buffer_bytes
