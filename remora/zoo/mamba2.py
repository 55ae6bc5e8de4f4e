"""Mamba2: a state-space model, in the form that needs no custom kernels."""

from __future__ import annotations

from transformers import Mamba2Config, Mamba2ForCausalLM

from remora.zoo.example import Example
from remora.zoo.inputs import token_ids
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["mamba2"]


def mamba2(
    *,
    layers: int,
    width: int,
    expansion: int,
    head_width: int,
    state_width: int,
    chunk: int,
    vocabulary: int,
    tied_embeddings: bool,
    sequence: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build Mamba2 for next-token prediction (Dao and Gu 2024).

    Args:
        layers: number of mixers.
        width: hidden size.
        expansion: the mixer works at ``expansion * width``, a multiple of ``head_width``.
        head_width: width of one head.
        state_width: size of the recurrent state per channel.
        chunk: tokens per chunk of the scan.
        vocabulary: number of token ids.
        tied_embeddings: whether input and output embedding are one parameter.
        sequence: tokens per sample.
        batch: samples.
        dtype: of the parameters.

    Raises:
        ValueError: ``expansion * width`` is no multiple of ``head_width``.

    Shapes:
        input_ids, labels: int64 ``[batch, sequence]``.
    """
    heads, rest = divmod(expansion * width, head_width)
    if rest:
        raise ValueError(
            f"expansion * width is {expansion * width}; it must be a multiple of head_width, "
            f"which is {head_width}"
        )
    config = Mamba2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        expand=expansion,
        num_heads=heads,
        head_dim=head_width,
        state_size=state_width,
        n_groups=1,
        chunk_size=chunk,
        tie_word_embeddings=tied_embeddings,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    model = cast_parameters(Mamba2ForCausalLM(config), float_dtype(dtype)).train()
    tokens = token_ids(batch, sequence, vocabulary)
    return Example(model, {"input_ids": tokens, "labels": tokens.clone()})
