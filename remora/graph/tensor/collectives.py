"""Collectives of tensor parallelism as operators that a trace records and a process group runs.

Megatron-LM's pairs (Shoeybi et al. 2019, arXiv 1909.08053): what enters a cut region is copied,
and its gradient summed; what leaves it is summed, and its gradient copied. They are operators of
our own rather than those of ``DTensor``, so that saved tensors, operator counts and storages are
those of plain tensors, in a trace that has no process group as in a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["NOBODY", "TensorGroup", "copy_into", "gather_last", "sum_out_of"]

NOBODY = "nobody"
"""Name of the group in a trace: its operators can be run alone for their time and send nothing."""

_LIBRARY = torch.library.Library("remora", "DEF")
_LIBRARY.define("all_reduce(Tensor x, int members, str group) -> Tensor")
_LIBRARY.define("all_gather(Tensor x, int members, str group) -> Tensor")


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """The ranks that share every cut layer, seen from one of them.

    Attributes:
        degree: how many.
        rank: position of this one.
        name: of the process group.
    """

    degree: int
    rank: int = 0
    name: str = NOBODY


def copy_into(x: Tensor, group: TensorGroup) -> Tensor:
    """Let a tensor into a cut region: its gradient is the sum over the ranks."""
    return _CopyInto.apply(x, group)  # type: ignore[no-any-return, no-untyped-call]


def sum_out_of(x: Tensor, group: TensorGroup) -> Tensor:
    """Sum what every rank of a cut region has a part of."""
    return _SumOutOf.apply(x, group)  # type: ignore[no-any-return, no-untyped-call]


def gather_last(x: Tensor, group: TensorGroup) -> Tensor:
    """Join the ranks' slices along the last dimension: ``[..., n]`` to ``[..., degree * n]``."""
    return _GatherLast.apply(x, group)  # type: ignore[no-any-return, no-untyped-call]


class _CopyInto(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: TensorGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _reduced(gradients[0], ctx.group), None


class _SumOutOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: TensorGroup) -> Tensor:
        return _reduced(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _GatherLast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: TensorGroup) -> Tensor:
        ctx.group, ctx.width = group, x.shape[-1]
        gathered: Tensor = torch.ops.remora.all_gather(x.contiguous(), group.degree, group.name)
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Every rank has the same gradient of the whole, since all compute the same from it.
        return gradients[0].narrow(-1, ctx.group.rank * ctx.width, ctx.width), None


def _reduced(x: Tensor, group: TensorGroup) -> Tensor:
    summed: Tensor = torch.ops.remora.all_reduce(x, group.degree, group.name)
    return summed


@torch.library.impl(_LIBRARY, "all_reduce", "CompositeExplicitAutograd")
def _all_reduce(x: Tensor, members: int, group: str) -> Tensor:
    from torch.distributed import all_reduce

    total = x.clone(memory_format=torch.contiguous_format)
    if group == NOBODY:
        return total
    all_reduce(total, group=_process_group(group))
    return total


@torch.library.impl(_LIBRARY, "all_gather", "CompositeExplicitAutograd")
def _all_gather(x: Tensor, members: int, group: str) -> Tensor:
    from torch.distributed import all_gather

    if group == NOBODY:
        return torch.cat([x] * members, dim=-1)
    parts = [torch.empty_like(x) for _ in range(members)]
    all_gather(parts, x, group=_process_group(group))
    return torch.cat(parts, dim=-1)


@torch.library.register_fake("remora::all_reduce", lib=_LIBRARY)
def _all_reduce_fake(x: Tensor, members: int, group: str) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.register_fake("remora::all_gather", lib=_LIBRARY)
def _all_gather_fake(x: Tensor, members: int, group: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] * members))


def _process_group(name: str) -> Any:
    from torch._C._distributed_c10d import _resolve_process_group

    # A name is a text to the type checker alone.
    return _resolve_process_group(name)  # type: ignore[arg-type]
