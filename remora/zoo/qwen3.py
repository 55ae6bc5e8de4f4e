"""Qwen3: a Llama-like decoder with normalised queries and keys and a free head width."""

from __future__ import annotations

from transformers import Qwen3Config, Qwen3ForCausalLM

from remora.zoo.example import Example
from remora.zoo.inputs import token_ids
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["qwen3"]


def qwen3(
    *,
    layers: int,
    width: int,
    heads: int,
    key_value_heads: int,
    head_width: int,
    inner_width: int,
    vocabulary: int,
    tied_embeddings: bool,
    sequence: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build dense Qwen3 for next-token prediction (Yang et al. 2025).

    Args:
        layers: number of blocks.
        width: hidden size.
        heads: query heads.
        key_value_heads: key and value heads, a divisor of ``heads``.
        head_width: width of one head; ``heads * head_width`` may differ from ``width``.
        inner_width: width inside the gated MLP.
        vocabulary: number of token ids.
        tied_embeddings: whether input and output embedding are one parameter.
        sequence: tokens per sample.
        batch: samples.
        dtype: of the parameters.

    Shapes:
        input_ids, labels: int64 ``[batch, sequence]``.
    """
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner_width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=head_width,
        max_position_embeddings=sequence,
        tie_word_embeddings=tied_embeddings,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = cast_parameters(Qwen3ForCausalLM(config), float_dtype(dtype)).train()
    tokens = token_ids(batch, sequence, vocabulary)
    return Example(model, {"input_ids": tokens, "labels": tokens.clone()})
