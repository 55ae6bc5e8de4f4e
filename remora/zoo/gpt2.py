"""GPT-2: a decoder-only transformer with learned positions and dropout."""

from __future__ import annotations

from transformers import GPT2Config, GPT2LMHeadModel

from remora.zoo.example import Example
from remora.zoo.inputs import token_ids
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["gpt2"]


def gpt2(
    *, layers: int, width: int, heads: int, vocabulary: int, sequence: int, batch: int, dtype: str
) -> Example:
    """Build GPT-2 for next-token prediction (Radford et al. 2019).

    Args:
        layers: number of blocks.
        width: hidden size, a multiple of ``heads``.
        heads: attention heads.
        vocabulary: number of token ids.
        sequence: tokens per sample, also the number of learned positions.
        batch: samples.
        dtype: of the parameters.

    Shapes:
        input_ids, labels: int64 ``[batch, sequence]``.
    """
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=sequence,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = cast_parameters(GPT2LMHeadModel(config), float_dtype(dtype)).train()
    # The library derives the loss from the class name, finds none in this one and warns.
    model.loss_type = "ForCausalLM"
    tokens = token_ids(batch, sequence, vocabulary)
    return Example(model, {"input_ids": tokens, "labels": tokens.clone()})
