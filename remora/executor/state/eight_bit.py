"""Optimizers whose state is kept in eight bits, those of torchao."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from remora.errors import InvalidInputError, MissingExtraError

__all__ = ["eight_bit_optimizer"]

_KEPT = ("lr", "betas", "eps", "weight_decay", "amsgrad")
_REFUSED = ("maximize",)


def eight_bit_optimizer(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer of the same kind, for the same weights, with its state in eight bits.

    Weights with fewer than 4096 values, or a number of them that 256 does not divide, keep a state
    of their own type. The first step compiles, which takes seconds and needs a C++ compiler.

    Args:
        optimizer: ``Adam`` or ``AdamW`` of PyTorch, before its first step.

    Raises:
        InvalidInputError: it is of another kind.
        MissingExtraError: torchao is not installed.
    """
    try:
        from torchao import optim
    except ImportError as error:
        raise MissingExtraError("torchao", "lowbit", "an optimizer in eight bits") from error
    kinds = {torch.optim.AdamW: optim.AdamW8bit, torch.optim.Adam: optim.Adam8bit}
    if type(optimizer) not in kinds:
        raise InvalidInputError(
            f"state.optimizer is '8bit' with optimizer {type(optimizer).__name__}; allowed with "
            "Adam and AdamW"
        )
    for name in _REFUSED:
        if any(group[name] for group in optimizer.param_groups):
            raise InvalidInputError(
                f"state.optimizer is '8bit' with {name}=True; allowed: {name}=False"
            )
    groups = [
        {"params": group["params"], **{name: group[name] for name in _KEPT}}
        for group in optimizer.param_groups
    ]
    defaults = {name: optimizer.defaults[name] for name in _KEPT}
    made: Optimizer = kinds[type(optimizer)](groups, **defaults)
    return made
