"""How the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from numba import njit

__all__ = ["allocating", "kernel"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that makes no arrays.

    Numba counts references to every array in the tuples that kernels pass around, which takes
    ten times as long as the kernels themselves; where nothing is allocated nothing need be counted.
    """
    options = {"cache": True, "_nrt": False}
    compiled: Callable[_P, _R] = njit(**options)(function)  # type: ignore[call-overload]
    return compiled


def allocating(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that makes arrays."""
    compiled: Callable[_P, _R] = njit(cache=True)(function)
    return compiled
