"""Llama: a decoder-only transformer with rotary positions, RMS norm and gated MLPs."""

from __future__ import annotations

from transformers import LlamaConfig, LlamaForCausalLM

from remora.zoo.example import Example
from remora.zoo.inputs import token_ids
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["llama"]


def llama(
    *,
    layers: int,
    width: int,
    heads: int,
    key_value_heads: int,
    inner_width: int,
    vocabulary: int,
    tied_embeddings: bool,
    sequence: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build Llama for next-token prediction (Touvron et al. 2023).

    Args:
        layers: number of blocks.
        width: hidden size, a multiple of ``heads``.
        heads: query heads.
        key_value_heads: key and value heads, a divisor of ``heads``.
        inner_width: width inside the gated MLP.
        vocabulary: number of token ids.
        tied_embeddings: whether input and output embedding are one parameter.
        sequence: tokens per sample.
        batch: samples.
        dtype: of the parameters.

    Shapes:
        input_ids, labels: int64 ``[batch, sequence]``.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner_width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=sequence,
        tie_word_embeddings=tied_embeddings,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = cast_parameters(LlamaForCausalLM(config), float_dtype(dtype)).train()
    tokens = token_ids(batch, sequence, vocabulary)
    return Example(model, {"input_ids": tokens, "labels": tokens.clone()})
