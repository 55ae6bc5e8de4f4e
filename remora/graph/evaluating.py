"""A model as it runs in inference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

__all__ = ["evaluating"]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and let it keep no cache by itself, for a while."""
    modes = [(module, module.training) for module in model.modules()]
    config: Any = getattr(model, "config", None)
    caches = getattr(config, "use_cache", None)
    try:
        model.eval()
        if caches:
            config.use_cache = False
        yield
    finally:
        for module, training in modes:
            module.training = training
        if caches:
            config.use_cache = caches
