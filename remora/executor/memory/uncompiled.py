"""Plans and torch.compile: what runs by a plan runs operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._dynamo.eval_frame import OptimizedModule

from remora.errors import InvalidInputError

__all__ = ["check_uncompiled", "uncompiled"]


def uncompiled(run: Callable[..., Any]) -> Callable[..., Any]:
    """Keep torch.compile out of a function and of all that it calls.

    Compiled code saves other tensors, in another order, than a plan was made for.
    """
    found: Callable[..., Any] = torch.compiler.disable(
        run, reason="the model runs by a Remora plan, which needs its operators uncompiled"
    )
    return found


def check_uncompiled(model: nn.Module) -> None:
    """Refuse a model of which a part was compiled.

    Raises:
        InvalidInputError: it was, by ``torch.compile(module)`` or ``module.compile()``.
    """
    for path, module in model.named_modules():
        if isinstance(module, OptimizedModule) or module._compiled_call_impl is not None:
            raise InvalidInputError(
                f"{f'module {path!r}' if path else 'the model'} is compiled by torch.compile, and "
                "compiled code saves other tensors than the plan was made for; allowed: modules "
                "that are not compiled"
            )
