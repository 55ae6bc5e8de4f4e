"""The stream of the keys and values that a plan keeps on the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.executor.memory.mover import Mover
from remora.executor.passes.cache_stream import CacheStream
from remora.graph.attention_cache import attention_layers, cache_layer
from remora.graph.model_graph import ModelGraph

__all__ = ["caches_on_host"]


def caches_on_host(
    model: nn.Module,
    graph: ModelGraph,
    units: Sequence[int],
    mover: Mover,
    device: torch.device,
    window: int,
) -> CacheStream | None:
    """Make the stream of the caches of some units; None for no units.

    Args:
        model: the module that ``graph`` was traced from.
        graph: its graph.
        units: whose caches wait on the host.
        mover: issues the copies; its pool gives the memory.
        device: where the model runs.
        window: what a unit added is waited for so many units later.

    Raises:
        InvalidInputError: one of the units keeps no cache.
    """
    if not units:
        return None
    layers = attention_layers(model, graph)
    for unit in units:
        if unit not in layers:
            raise InvalidInputError(
                f"state.host_caches holds {unit}, a unit of this model without attention that "
                f"keeps a cache; allowed: {', '.join(map(str, sorted(layers))) or 'none'}"
            )
    numbered = {unit: [cache_layer(path, layer) for path, layer in layers[unit]] for unit in units}
    return CacheStream(numbered, mover, device, window)
