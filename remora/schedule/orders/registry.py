"""The pipeline kinds, two lines each, and what the rest of the package asks about them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from remora.errors import InvalidInputError
from remora.schedule.orders import chimera, interleaved, one_rank, one_stage, v_shape
from remora.schedule.orders.order import Order, OrderRule, forwards_of

__all__ = [
    "PipelineKind",
    "allowed_chunks",
    "check_pipeline",
    "kind_title",
    "model_copies",
    "pipeline_order",
    "registered_kinds",
    "splits_backward",
]


class PipelineKind(StrEnum):
    """Order in which micro-batches run over the ranks."""

    NONE = "none"
    GPIPE = "gpipe"
    ONE_F_ONE_B = "1f1b"
    INTERLEAVED = "interleaved_1f1b"
    ZERO_BUBBLE = "zero_bubble"
    DUALPIPE_V = "dualpipe_v"
    CHIMERA = "chimera"


_RULES: Mapping[PipelineKind, OrderRule] = MappingProxyType(
    {
        PipelineKind.NONE: one_rank.RULE,
        PipelineKind.GPIPE: one_stage.GPIPE,
        PipelineKind.ONE_F_ONE_B: one_stage.ONE_F_ONE_B,
        PipelineKind.INTERLEAVED: interleaved.RULE,
        PipelineKind.ZERO_BUBBLE: v_shape.ZERO_BUBBLE,
        PipelineKind.DUALPIPE_V: v_shape.DUALPIPE,
        PipelineKind.CHIMERA: chimera.RULE,
    }
)


def registered_kinds() -> tuple[PipelineKind, ...]:
    """Every kind that has an order."""
    return tuple(_RULES)


def kind_title(kind: PipelineKind) -> str:
    """Return what people call a kind."""
    return _RULES[kind].title


def splits_backward(kind: PipelineKind) -> bool:
    """Tell whether some backwards of this kind are split into input and weight gradients."""
    return _RULES[kind].splits_backward


def allowed_chunks(kind: PipelineKind) -> range:
    """Return the numbers of stages per rank (of one copy of the model) that a kind allows."""
    return _RULES[kind].chunks


def model_copies(kind: PipelineKind) -> int:
    """Return how many copies of the model a kind spreads over its ranks.

    The stages of an ``Order`` are numbered one copy after the other: with S stages per copy,
    stage s has the units of stage s % S, and its micro-batches enter where s % S is 0.
    """
    return _RULES[kind].model_copies


def check_pipeline(kind: PipelineKind, num_ranks: int, micro_batches: int, chunks: int) -> None:
    """Refuse what has no order of this kind.

    Args:
        kind: kind of the pipeline.
        num_ranks: ranks of one replica.
        micro_batches: micro-batches of one step.
        chunks: stages of one rank, of one copy of the model.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    if num_ranks < 1:
        raise InvalidInputError(f"the pipeline has {num_ranks} ranks; allowed: integers from 1")
    if micro_batches < 1:
        raise InvalidInputError(
            f"pipeline.micro_batches is {micro_batches}; allowed: integers from 1"
        )
    rule = _RULES[kind]
    if chunks not in rule.chunks:
        least = rule.chunks.start
        allowed = str(least) if len(rule.chunks) == 1 else f"integers from {least}"
        raise InvalidInputError(
            f"pipeline.chunks is {chunks}; allowed with pipeline.kind={kind.value!r}: {allowed}"
        )
    rule.check(num_ranks, micro_batches)


@lru_cache(maxsize=512)
def pipeline_order(
    kind: PipelineKind,
    num_ranks: int,
    micro_batches: int,
    chunks: int,
    forward_only: bool = False,
) -> Order:
    """Return the order in which every rank runs its tasks; the same object for the same arguments.

    Args:
        kind: kind of the pipeline.
        num_ranks: ranks of one replica.
        micro_batches: micro-batches of one step.
        chunks: stages of one rank, of one copy of the model.
        forward_only: leave the backwards out.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    check_pipeline(kind, num_ranks, micro_batches, chunks)
    if forward_only:
        return forwards_of(pipeline_order(kind, num_ranks, micro_batches, chunks))
    return _RULES[kind].order(num_ranks, micro_batches, chunks)
