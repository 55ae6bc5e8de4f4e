"""Bytes of keys and values that a decoder keeps between passes, from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from remora.graph.model_graph import ModelGraph

__all__ = ["attention_layers", "cache_bytes", "cache_layer", "keeps_cache"]

_CROSS = ("EncDecAttention", "crossattention", "encoder_attn")
"""Names of attention over the output of an encoder."""


def keeps_cache(model: nn.Module) -> bool:
    """Whether a model generates tokens with a cache of keys and values."""
    can_generate = getattr(model, "can_generate", None)
    return callable(can_generate) and bool(can_generate())


def cache_bytes(
    model: nn.Module, graph: ModelGraph, tokens: int, encoder_tokens: int = 0
) -> tuple[int, ...]:
    """Bytes of one sequence's keys and values in every unit; none for a model without a cache.

    Args:
        model: the module that ``graph`` was traced from.
        graph: its graph.
        tokens: of one sequence at its end; layers with a sliding window keep no more than that.
        encoder_tokens: that attention over an encoder's output reads.

    Returns:
        Bytes by unit, empty if no unit keeps any.  # [num_units]
    """
    found = [0] * len(graph.units)
    for unit, layers in attention_layers(model, graph).items():
        for path, layer in layers:
            read = encoder_tokens if _is_cross(path, layer) else tokens
            window = getattr(layer, "sliding_window", None)
            kept = min(read, window) if isinstance(window, int) and window > 0 else read
            found[unit] += kept * _bytes_per_token(model, layer)
    return tuple(found) if any(found) else ()


def attention_layers(
    model: nn.Module, graph: ModelGraph
) -> Mapping[int, tuple[tuple[str, nn.Module], ...]]:
    """Attention layers that keep keys and values, with their paths, by the unit that runs them."""
    if not keeps_cache(model):
        return {}
    found: dict[int, list[tuple[str, nn.Module]]] = {}
    for path, layer in _decoder_attention(model):
        unit = next((op.unit for op in graph.ops if _inside(op.module, path)), None)
        if unit is not None:
            found.setdefault(unit, []).append((path, layer))
    return {unit: tuple(layers) for unit, layers in found.items()}


def cache_layer(path: str, layer: nn.Module) -> tuple[int, bool]:
    """Number of an attention layer, and whether it reads the output of an encoder."""
    number: Any = layer.layer_idx
    return int(number), _is_cross(path, layer)


def _decoder_attention(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in model.named_modules():
        numbered = isinstance(getattr(module, "layer_idx", None), int)
        encodes = getattr(module, "is_decoder", True) is False
        if numbered and not encodes and type(module).__name__.endswith("Attention"):
            yield path, module


def _inside(module: str, path: str) -> bool:
    return module == path or module.startswith(path + ".")


def _is_cross(path: str, layer: nn.Module) -> bool:
    marked = getattr(layer, "is_cross_attention", False) is True
    return marked or path.rsplit(".", 1)[-1] in _CROSS


def _bytes_per_token(model: nn.Module, layer: nn.Module) -> int:
    """Keys and values of one token in the type of the layer's weights."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    own = getattr(layer, "n_heads", None)
    heads = own or getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(layer, "head_dim", None) or getattr(layer, "key_value_proj_dim", None)
    width = width or text.hidden_size // text.num_attention_heads
    itemsize = next(parameter.element_size() for parameter in layer.parameters())
    return 2 * int(heads) * int(width) * itemsize
