"""BERT: a bidirectional encoder trained to restore masked tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from remora.zoo.example import Example
from remora.zoo.inputs import token_ids
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["bert"]

_MASKED_SHARE = 0.15
_IGNORED_LABEL = -100


def bert(
    *,
    layers: int,
    width: int,
    heads: int,
    inner_width: int,
    vocabulary: int,
    sequence: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build BERT for masked-token prediction (Devlin et al. 2018).

    Args:
        layers: number of blocks.
        width: hidden size, a multiple of ``heads``.
        heads: attention heads.
        inner_width: width inside the MLP.
        vocabulary: number of token ids.
        sequence: tokens per sample, also the number of learned positions.
        batch: samples.
        dtype: of the parameters.

    Shapes:
        input_ids, labels: int64 ``[batch, sequence]``; labels are -100 off the masked places.
    """
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner_width,
        max_position_embeddings=sequence,
        attn_implementation="sdpa",
    )
    model = cast_parameters(BertForMaskedLM(config), float_dtype(dtype)).train()
    tokens, labels = _masked(token_ids(batch, sequence, vocabulary))
    return Example(model, {"input_ids": tokens, "labels": labels})


def _masked(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Replace a share of the tokens by id 1 and label those: two of ``[batch, sequence]``."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(tokens.shape, generator=generator, device="cpu") < _MASKED_SHARE
    chosen[:, 0] = True  # a loss over no token at all would be nan
    return tokens.masked_fill(chosen, 1), tokens.masked_fill(~chosen, _IGNORED_LABEL)
