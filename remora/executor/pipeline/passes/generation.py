"""Greedy generation by a pipeline: every rank runs the loop, and the passes run on all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils import _pytree as pytree

from remora.executor.passes.cache_stream import find_cache
from remora.executor.passes.runs import Generation
from remora.executor.pipeline.passes.rank_passes import PlayedPass, RankPasses
from remora.executor.pipeline.passes.recorded_generation import RecordedPass
from remora.executor.pipeline.world import World
from remora.executor.step import storage_bytes
from remora.graph.wrapping import wrap

__all__ = ["RankGeneration"]


class RankGeneration:
    """Generates on one rank of a pipeline; all its ranks call it alike.

    For every token the micro-batches pass the stages one after the other; then the last rank sends
    the logits of the last positions to the others, and the next token begins. Every rank holds keys
    and values of its own layers only.

    Args:
        generation: of the prompts of all micro-batches of the replica, by the whole model.
        recorded: its passes over one micro-batch.
        passes: of this rank.
        micro_batches: into which every pass is cut.
        world: where this process stands.
    """

    def __init__(
        self,
        generation: Generation,
        recorded: Sequence[RecordedPass],
        passes: RankPasses,
        micro_batches: int,
        world: World,
    ) -> None:
        self._generation = generation
        self._passes = passes
        self._micro_batches = micro_batches
        self._world = world
        self._recorded = recorded
        self._played: Sequence[PlayedPass] = [passes.played(one.tape) for one in recorded]
        self._caches: list[Any] = []
        self._next = 0

    def run(self) -> None:
        """Generate once."""
        self.tokens()

    def tokens(self) -> Tensor:
        """Generate.

        Returns:
            ids of prompt and new tokens, in host memory, the same on all ranks.  # [batch, tokens]
        """
        self._next = 0
        wrapper = wrap(self._generation.model, "", self._pass)
        try:
            return self._generation.tokens()
        finally:
            wrapper.remove()
            self._caches = []

    def resident_bytes(self) -> int:
        """Bytes of weights, buffers and prompt of this rank."""
        own = [*self._passes.parameters.values(), *self._passes.buffers.values()]
        return storage_bytes([*own, self._generation.prompt])

    def _pass(
        self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Stand for the forward of the whole model."""
        recorded, played = self._recorded[self._next], self._played[self._next]
        cache = find_cache(args, kwargs)
        if self._next == 0:
            self._caches = [copy.deepcopy(cache) for _ in range(self._micro_batches)]
        self._next += 1

        def use_cache(micro_batch: int) -> Any:
            recorded.cache.layers = self._caches[micro_batch].layers
            return recorded.cache

        results: dict[int, tuple[Tensor, ...]] = {}
        played.run(self._batches(recorded, kwargs), results.__setitem__, use_cache)
        logits = self._shared_logits(recorded, results)
        return recorded.output_type(logits=logits, past_key_values=cache)

    def _batches(self, recorded: RecordedPass, kwargs: dict[str, Any]) -> list[list[Any]]:
        """Cut the inputs of a pass up: the leaves that are as large as all micro-batches."""
        count, device = self._micro_batches, self._passes.device
        batches: list[list[Any]] = [[] for _ in range(count)]
        for leaf, shape in zip(pytree.tree_leaves(kwargs), recorded.shapes, strict=True):
            whole = shape is None or leaf.shape == shape
            parts = [leaf] * count if whole else leaf.chunk(count)
            for batch, part in zip(batches, parts, strict=True):
                batch.append(part.to(device) if isinstance(part, Tensor) else part)
        return batches

    def _shared_logits(
        self, recorded: RecordedPass, results: dict[int, tuple[Tensor, ...]]
    ) -> Tensor:
        """Logits of the last positions, on every rank.  # [batch, 1, vocabulary]."""
        world, count = self._world, self._micro_batches
        (number,) = recorded.tape.results
        layout = recorded.tape.values[number].layout
        if world.rank == world.num_ranks - 1:
            logits = torch.cat([results[micro_batch][0] for micro_batch in range(count)])
        else:
            batch, *rest = layout.size
            shape = (batch * count, *rest)
            logits = torch.empty(shape, dtype=layout.dtype, device=self._passes.device)
        dist.broadcast(logits, world.links.to_global[-1], group=world.pipeline)
        return logits
