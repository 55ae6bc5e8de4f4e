"""How the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from numba import njit

__all__ = ["kernel"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Numba counts references to every array in the tuples that kernels pass around, which takes ten
# times as long as the kernels themselves; they allocate nothing, so nothing need be counted.
_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False}


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that makes no arrays; what it needs is handed in."""
    compiled: Callable[_P, _R] = njit(**_OPTIONS)(function)
    return compiled
