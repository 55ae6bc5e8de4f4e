"""What all ranks of a verification run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from remora.graph.batch import batch_of, on_device, split_batch
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph

__all__ = ["RanksJob", "copied", "make_equal", "replica_batches"]


@dataclass(frozen=True)
class RanksJob:
    """A training step that is compared and measured.

    Attributes:
        model: the whole model.
        replicas: micro-batches of every replica.  # [replicas][micro_batches]
        loss: of the output; None for the default.
        graph: of one micro-batch.
        optimizer_name: see :func:`remora.executor.step.make_optimizer`.
        seed: of the random operators.
    """

    model: nn.Module
    replicas: Sequence[Sequence[ExampleInputs]]
    loss: LossFunction | None
    graph: ModelGraph
    optimizer_name: str
    seed: int

    def batch_on(self, device: torch.device, replica: int) -> list[ExampleInputs]:
        """Micro-batches of a replica, moved to a device."""
        return [on_device(inputs, device) for inputs in self.replicas[replica]]


def make_equal(model: nn.Module, example_inputs: ExampleInputs) -> None:
    """Give every rank the weights, buffers and batch of rank 0; all in host memory."""
    leaves = [leaf for leaf in pytree.tree_leaves(example_inputs) if isinstance(leaf, Tensor)]
    for tensor in (*model.parameters(), *model.buffers(), *leaves):
        content = tensor.detach().contiguous()
        dist.broadcast(content, 0)
        tensor.detach().copy_(content)


def replica_batches(
    example_inputs: ExampleInputs, replicas: int, micro_batches: int
) -> list[list[ExampleInputs]]:
    """Cut the batch up for every replica, so that no two see the same samples.

    Replica j takes every (j + 1)-th sample, and begins anew at the end.

    Raises:
        InvalidInputError: the number of micro-batches does not divide the batch.
    """
    if micro_batches == 1 and replicas == 1:
        # Also for inputs that have no batch.
        return [[example_inputs]]
    batch = batch_of(example_inputs)

    def of_replica(leaf: object, replica: int) -> object:
        if isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == batch:
            return leaf[torch.arange(batch) * (replica + 1) % batch]
        return leaf

    whole = [
        pytree.tree_map(lambda leaf, j=replica: of_replica(leaf, j), example_inputs)
        for replica in range(replicas)
    ]
    return [split_batch(inputs, micro_batches) for inputs in whole]


def copied(tensor: Tensor | None) -> Tensor | None:
    """Copy a tensor into host memory."""
    return None if tensor is None else tensor.detach().to("cpu", copy=True)
