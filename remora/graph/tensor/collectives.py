"""Collectives of tensor parallelism as operators that a trace records and a process group runs.

Megatron-LM's pairs (Shoeybi et al. 2019, arXiv 1909.08053): what enters a cut region is copied,
and its gradient summed; what leaves it is summed, and its gradient copied. They are operators of
our own rather than those of ``DTensor``, so that saved tensors, operator counts and storages are
those of plain tensors, in a trace that has no process group as in a run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["NOBODY", "TensorGroup", "copy_into", "gather_last", "sum_out_of"]

NOBODY = "nobody"
"""Name of the group in a trace: its operators can be run alone for their time and send nothing."""

_PATIENCE_S = 1.0

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
    with _lent(total) as (lent,):
        all_reduce(lent, group=_process_group(group))
        del lent
    return total


@torch.library.impl(_LIBRARY, "all_gather", "CompositeExplicitAutograd")
def _all_gather(x: Tensor, members: int, group: str) -> Tensor:
    from torch import distributed

    # Its name from PyTorch 2.13 on.
    name = "all_gather_single"
    gather = getattr(distributed, name, None) or distributed.all_gather_into_tensor
    parts = x.new_empty((members * x.shape[0], *x.shape[1:]))
    if group != NOBODY:
        with _lent(parts, x) as (lent, own):
            gather(lent, own, group=_process_group(group))
            del lent, own
    return torch.cat(parts.chunk(members), dim=-1)


@torch.library.register_fake("remora::all_reduce", lib=_LIBRARY)
def _all_reduce_fake(x: Tensor, members: int, group: str) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.register_fake("remora::all_gather", lib=_LIBRARY)
def _all_gather_fake(x: Tensor, members: int, group: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] * members))


@contextlib.contextmanager
def _lent(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """Lend aliases of tensors to a collective, and wait until a thread of Gloo has let go of them.

    It holds them a moment longer, and memory that it is the last to hold is freed on its side,
    where neither the order of the program nor a profiler of this thread sees it.
    """
    before = [_uses(tensor) for tensor in tensors]
    aliases = [tensor.detach() for tensor in tensors]
    yield aliases
    aliases.clear()
    give_up = time.monotonic() + _PATIENCE_S
    for tensor, count in zip(tensors, before, strict=True):
        while tensor.device.type == "cpu" and _uses(tensor) > count:
            if time.monotonic() > give_up:
                return
            time.sleep(0)


def _uses(tensor: Tensor) -> int:
    count: int = torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return count


def _process_group(name: str) -> Any:
    from torch._C._distributed_c10d import _resolve_process_group

    # A name is a text to the type checker alone.
    return _resolve_process_group(name)  # type: ignore[arg-type]
