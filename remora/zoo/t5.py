"""T5: an encoder and a decoder joined by cross attention, with relative position biases."""

from __future__ import annotations

from transformers import T5Config, T5ForConditionalGeneration

from remora.zoo.example import Example
from remora.zoo.inputs import token_ids
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["t5"]


def t5(
    *,
    layers: int,
    width: int,
    heads: int,
    head_width: int,
    inner_width: int,
    vocabulary: int,
    sequence: int,
    target_sequence: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build T5 for text-to-text prediction (Raffel et al. 2019).

    Args:
        layers: blocks of the encoder, and as many of the decoder.
        width: hidden size.
        heads: attention heads.
        head_width: width of one head.
        inner_width: width inside the MLP.
        vocabulary: number of token ids.
        sequence: tokens per sample on the encoder's side.
        target_sequence: tokens per sample on the decoder's side.
        batch: samples.
        dtype: of the parameters.

    Shapes:
        input_ids: int64 ``[batch, sequence]``.
        labels: int64 ``[batch, target_sequence]``.
    """
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=head_width,
        d_ff=inner_width,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        use_cache=False,
    )
    model = cast_parameters(T5ForConditionalGeneration(config), float_dtype(dtype)).train()
    source = token_ids(batch, sequence, vocabulary)
    target = token_ids(batch, target_sequence, vocabulary, seed=1)
    return Example(model, {"input_ids": source, "labels": target})
