"""Weights that stages of several ranks read: their gradients are summed over those ranks.

Tied weights are such, and all weights of a pipeline that runs copies of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from remora.executor.pipeline.world import World
from remora.executor.state.host_weights import local_part

__all__ = ["SharedWeights"]


class SharedWeights:
    """The weights that this rank shares with others.

    Args:
        names: parameters of every rank of the pipeline.  # [num_ranks]
        parameters: of this rank, by name.
        world: of this process; all its processes make this object alike.
    """

    def __init__(
        self,
        names: Sequence[Sequence[str]],
        parameters: Mapping[str, nn.Parameter],
        world: World,
    ) -> None:
        holders: dict[str, tuple[int, ...]] = {}
        for rank, own in enumerate(names):
            for name in own:
                holders[name] = (*holders.get(name, ()), rank)
        shared = sorted({ranks for ranks in holders.values() if len(ranks) > 1})
        self._groups: list[tuple[dist.ProcessGroup, list[nn.Parameter]]] = []
        for ranks in shared:
            group = world.group_of(ranks)
            if group is not None:
                own = [name for name in sorted(holders) if holders[name] == ranks]
                self._groups.append((group, [parameters[name] for name in own]))

    def sum_gradients(self) -> None:
        """Add up the gradients of this step; a rank that made none adds nothing."""
        for group, parameters in self._groups:
            for parameter in parameters:
                if parameter.requires_grad:
                    dist.all_reduce(local_part(_gradient(parameter)), group=group)


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
